"""What the chain itself costs: one message sent many times over, by a node of the benchmarks' own plugin."""
import statistics

import fleet
from measure import side_by_side
from processes import BINARY, MEASURED, Windlass

CHAINS = {
    "an empty node": '<b:pump id="in" to="p1"/><b:pass id="p1"/>',
    "five empty nodes": '<b:pump id="in" to="p1"/>' + "".join(
        f'<b:pass id="p{n}" to="p{n + 1}"/>' for n in range(1, 5)
    ) + '<b:pass id="p5"/>',
    "five empty nodes that never wait": '<b:pump id="in" to="p1"/>' + "".join(
        f'<b:decide id="p{n}" to="p{n + 1}"/>' for n in range(1, 5)
    ) + '<b:pass id="p5"/>',
    "switch": '<b:pump id="in" to="s"/><flow:switch id="s" on="type">'
    + "".join(f'<link on="{type}" to="end"/>' for type in ("A", "B", "C", "PACKAGE_CHUNK_REQUEST"))
    + '</flow:switch><b:pass id="end"/>',
    "filter": '<b:pump id="in" to="f"/><flow:filter id="f" test="$fw_state = \'FAILED\' and $battery &gt; 30">'
    '<link on="False" to="end"/></flow:filter><b:pass id="end"/>',
}


def start(bench, plugins, chain, data):
    """A host with one chain, and the plugin of the benchmarks."""
    folder = bench.folder / "chains"
    folder.mkdir(exist_ok=True)
    (folder / "chain.xml").write_text(chain)
    return Windlass(data, chains=folder, plugins=[BINARY.parent, plugins])


def pumped(bench, plugins, chain, data):
    """Median nanoseconds of a message."""
    with start(bench, plugins, chain, data) as host:
        lines = host.lines
        while "pump end" not in lines:
            line = host.process.stdout.readline()
            if not line:
                raise SystemExit("the host ended: " + "\n".join(lines))
            lines.append(line.strip())
    return statistics.median(float(line.split()[1]) for line in lines if line[:5] == "pump " and line != "pump end")


def chain(bench, plugins):
    bench.table.section("The chain, in nanoseconds of the processor", ("ns/message", "ns/hop", "messages/s"))
    head = (
        '<chain name="c" xmlns="urn:windlass:chain:1" xmlns:b="urn:windlass:benchmark" xmlns:flow="urn:windlass:flow">'
    )
    empty = None
    for name, nodes in CHAINS.items():
        each = pumped(bench, plugins, f"{head}{nodes}</chain>", bench.folder / "chain-data")
        if empty is None:
            empty = each
        # The last hop is that of the empty node behind; sending to the first is in all.
        hop = None if name == "an empty node" else (each - empty) / (4 if name.startswith("five") else 1)
        bench.table.row(name, "windlass", each, hop, 1e9 / each)

    bench.host()
    bench.end()
    device = bytes(fleet.count(bench.data, "SELECT id FROM device LIMIT 1")).hex()
    device = "-".join((device[:8], device[8:12], device[12:16], device[16:20], device[20:]))
    text = (MEASURED / "chains/ota.xml").read_text()
    pump = f'<b:pump xmlns:b="urn:windlass:benchmark" id="pump" device="{device}" to="activity"/>'
    each = pumped(bench, plugins, text.replace("</chain>", f"{pump}</chain>"), bench.data)
    bench.table.row("a chunk request through ota.xml (four nodes)", "windlass", each, None, 1e9 / each)
    share(bench, plugins, head)


def share(bench, plugins, head):
    """What the chain that ships adds to a request, against the same ingress with one node that answers from memory."""
    direct = f"""{head[:-1]} xmlns:http="urn:windlass:http">
        <http:ingress id="in" host="127.0.0.1" port="0" to="answer"/><b:answer id="answer" file="{bench.firmware}"/>
    </chain>"""
    size = 16 * 1024
    options = {"devices": 64, "size": size, "file": bench.firmware, "seconds": bench.seconds}
    # One at a time, since both have the same core and data.
    samples = {"ota.xml": [], "one node that answers": []}
    for _ in range(bench.rounds):
        for name, chain in (("ota.xml", None), ("one node that answers", direct)):
            host = start(bench, plugins, chain, bench.data) if chain else Windlass(bench.data)
            with host:
                samples[name] += side_by_side(1, bench.load("http-chunk", host, host.ports["http"], **options))
    bench.table.section("16 KiB chunks over HTTP: what the chain adds; one core, 64 connections", ("CPU µs/op", "share"))
    whole, direct = (statistics.median(sample.cpu_us for sample in taken) for taken in samples.values())
    bench.table.row("through ota.xml", "windlass", whole, None)
    bench.table.row("the same ingress, and one node that answers from memory", "windlass", direct, None)
    bench.table.row("what the chain adds", "windlass", whole - direct, f"{(whole - direct) / whole:.1%}")
