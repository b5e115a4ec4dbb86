"""Makes what is measured and what measures: another revision's host, the load generator, and the plugin of the benchmarks."""
import pathlib
import shutil
import subprocess
import sys

from processes import ROOT

BUILT = ROOT / ".build/benchmarks"
LOAD = BUILT / "load"
BUILD_SECONDS_MAX = 3600
# Header-only modules that the platform's modules import; the others have a module map among the products.
SHIMS = ("_AtomicsShims", "_NumericsShims", "CSystem")


def make(command, **options):
    """Runs a command; returns what it printed if it failed."""
    done = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=BUILD_SECONDS_MAX, **options,
    )
    return done.stdout or f"it exited with {done.returncode}" if done.returncode != 0 else None


def load():
    """The load generator, with the compiler that comes with Swift."""
    BUILT.mkdir(parents=True, exist_ok=True)
    tls = []
    if pathlib.Path("/usr/include/openssl/ssl.h").exists():
        tls = ["-DWITH_TLS", "-lssl", "-lcrypto"]
    else:
        print("libssl-dev is not installed; the rows over TLS are left out", file=sys.stderr)
    sources = sorted((ROOT / "Benchmarks/load").glob("*.c"))
    if errors := make(["clang", "-O2", "-D_GNU_SOURCE", *sources, "-o", LOAD, *tls]):
        raise SystemExit(f"the load generator does not compile:\n{errors}")


def plugins(checkout):
    """The folder with the plugin of the benchmarks for a checkout's host."""
    return checkout / ".build/benchmarks/plugins"


def pump(checkout, products):
    """The plugin of the benchmarks, for a checkout's host.

    It is compiled against the platform that is there: a package that depends on it would build all of it once more. Where this
    checkout's source does not compile with the other's platform, the other's own source does.
    """
    plugins(checkout).mkdir(parents=True, exist_ok=True)
    maps = [*products.glob("*/module.modulemap")]
    for shim in SHIMS:
        maps += (checkout / ".build/checkouts").glob(f"*/Sources/{shim}/include/module.modulemap")
    command = [
        "swiftc", "-O", "-emit-library", "-parse-as-library", "-swift-version", "6", "-module-name", "Pump",
        "-enable-upcoming-feature", "NonisolatedNonsendingByDefault", "-I", products / "Modules", "-L", products,
        "-lWindlassPlatform", *[part for map in maps for part in ("-Xcc", f"-fmodule-map-file={map}")],
        "-o", plugins(checkout) / "libPumpPlugin.so",
    ]
    for root in dict.fromkeys((ROOT, checkout)):
        errors = make([*command, root / "Benchmarks/pump/Pump.swift"])
        if not errors:
            return
    raise SystemExit(f"the plugin of the benchmarks does not compile:\n{errors}")


def checkout(revision):
    """A checkout with a release build: the folder if one is named, else a clone of that revision, built if it is not yet."""
    folder = pathlib.Path(revision).absolute()
    if (folder / "Package.swift").exists():
        if not (folder / ".build/release/windlass").exists():
            raise SystemExit(f"'{revision}' has no release build; run {folder}/bin/windlass --version")
        return folder
    git = ["git", "-C", str(ROOT)]
    found = subprocess.run([*git, "rev-parse", "--verify", "--quiet", revision + "^{commit}"], capture_output=True, text=True)
    commit = found.stdout.strip()
    if found.returncode != 0:
        raise SystemExit(f"--against {revision}: neither a revision of this repository nor a folder with a Package.swift")
    folder = ROOT / ".build/against" / commit[:12]
    if not (folder / "Package.swift").exists():
        shutil.rmtree(folder, ignore_errors=True)
        # Without copying objects, and without a trace in this repository.
        for command in (["clone", "--quiet", "--shared", "--no-checkout", ROOT, folder], ["-C", folder, "checkout", "-q", commit]):
            if errors := make(["git", *command]):
                raise SystemExit(f"cannot check out {commit}: {errors}")
        # The same versions of libraries, so that only Windlass differs.
        if (ROOT / "Package.resolved").exists():
            shutil.copyfile(ROOT / "Package.resolved", folder / "Package.resolved")
    if subprocess.run([folder / "bin/windlass", "--version"], stdout=sys.stderr).returncode != 0:
        raise SystemExit(f"'{revision}' does not build in {folder}; its errors are above")
    return folder
