#!/bin/sh
# Writes the Swift source with the platform's stamp. StampPlugin has the build run this when one of the arguments' files changed.
# stamp.sh OUTPUT COMPILER LIBRARIES SOURCE…: the libraries as "swift-log 1.16.2,swift-nio 2.101.2", sources relative to this folder.
set -eu
cd "$(dirname "$0")"
output=$1 compiler=$2 libraries=$3
shift 3

version=$(sed -n 's/.*static let version = "\(.*\)"$/\1/p' NodeKit/Plugin.swift)
compiler=$("$compiler" --version 2>/dev/null | sed -n 's/.*Swift version //p')
digests=$(sha256sum -- "$@")
sources=$(printf '%s' "$digests" | sha256sum | cut -c 1-16)
[ -n "$version" ] && [ -n "$compiler" ] || { echo "error: no version of the platform or of the compiler" >&2; exit 1; }

# The literal is a default argument, because the compiler compiles a caller again if the declaration changes, but not always if only
# the body does.
code() {
    stamp=$(printf '%s' "platform=$version;sources=$sources;compiler=$compiler;configuration=$1;libraries=$libraries" | tr -d '\\"')
    literal="\"\\u{1}windlass-plugin-stamp:$stamp;\\u{1}\""
    cat <<EOF
let platformStamp: StaticString = $literal

extension Plugin {
    /// The plugin in the form that crosses the library's boundary; a plugin in \`libNamePlugin.so\` exports it as the C symbol
    /// \`windlass_plugin_Name\`.
    ///
    /// Leave the argument out: its default is the stamp of the platform that the calling code is compiled against.
    @_alwaysEmitIntoClient
    public func exported(stamp: StaticString = $literal) -> UnsafeMutableRawPointer {
        self.export(stamp: stamp)
    }
}

extension PlatformStamp {
    /// Makes sure that the calling code was compiled against the platform that the process has loaded.
    ///
    /// Leave the argument out: its default is the stamp of the platform that the calling code is compiled against.
    ///
    /// - Throws: \`\`NodeKit/NodeError\`\` with the code \`platform-stamp\` that says what differs.
    @_alwaysEmitIntoClient
    public static func check(stamp: StaticString = $literal) throws(NodeError) {
        try Self.compare(stamp)
    }
}
EOF
}

{
    echo 'public import NodeKit'
    echo '#if DEBUG'
    code debug
    echo '#else'
    code release
    echo '#endif'
} > "$output.new"
# A file that stays as it is has nothing compiled again.
if cmp -s "$output.new" "$output"; then rm "$output.new"; else mv "$output.new" "$output"; fi
