# amaranth: UnusedElaboratable=no
"""IP-XACT of a core, read back by its names, against the register table and the Verilog's ports."""
import xml.etree.ElementTree as ET

import pytest
from peakrdl_ipxact import IPXACTImporter
from systemrdl import RDLCompiler
from systemrdl.messages import MessagePrinter
from systemrdl.rdltypes import AccessType, OnWriteType

from firmware_models.registers import table
from hwgen.build import accompanying, describe
from hwgen.ipxact import registers
from rtl.core import Core

from .networks import small_network

NAMES = {"ipxact": "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"}
OPTIONS = {"inference": {"learning": False}, "np": {},
           "both": {"rules": ("es", "np"), "options": ("load", "snapshot", "journal")}}


@pytest.fixture(params=OPTIONS)
def core(request):
    return Core(small_network((6, 5, 4), (0, 1)), **OPTIONS[request.param])


def test_records(core):
    """What writers of other formats get."""
    got = registers(describe(core))
    expected = sorted(table(core.learning, core.rules, core.options, core.build),
                      key=lambda r: r.offset)
    assert [(r["name"], r["offset"], r["width"]) for r in got] == [
        (r.name, r.offset, 32) for r in expected]
    assert [[(f["name"], f["lsb"], f["width"], f["reset"]) for f in r["fields"]] for r in got] == [
        [(f.name, f.lsb, f.width, f.reset) for f in r.fields] for r in expected]
    for record, register in zip(got, expected, strict=True):
        assert record["access"] == ("read-only" if register.access == "ro" else "read-write")
        assert [f["one_to_clear"] for f in record["fields"]] == [
            register.access == "w1c"] * len(register.fields)
        assert record["volatile"] == (register.access != "rw")
        assert record["reset"] == sum(f.reset << f.lsb for f in register.fields)


def test_component(core):
    """The XML: each register and field, bus and port, and files that the build has."""
    manifest = describe(core)
    files = accompanying(manifest, core.network)
    root = ET.fromstring(files["core.xml"])
    assert {child.tag.split("}")[0] for child in root.iter()} == {"{" + NAMES["ipxact"]}
    # The schema's order.
    assert [child.tag.split("}")[1] for child in root] == [
        "vendor", "library", "name", "version", "busInterfaces", "memoryMaps", "model",
        "fileSets", "description"]

    def find(element, path):
        return element.findall("/".join(f"ipxact:{part}" for part in path.split("/")), NAMES)

    def value(element, path):
        text = find(element, path)[0].text
        return int(text.replace("'h", "0x"), 0) if text[0] in "'0123456789" else text

    assert value(root, "name") == "small_core" + ("" if core.learning else "_inference")
    assert f"name: hwgen:cores:{value(root, 'name')}:1.0\n" in files["core.core"]
    got = {}
    for register in find(root, "memoryMaps/memoryMap/addressBlock/register"):
        assert (value(register, "size"), value(register, "name") in got) == (32, False)
        got[value(register, "name")] = (
            value(register, "addressOffset"), value(register, "access"),
            [(value(f, "name"), value(f, "bitOffset"), value(f, "bitWidth"), value(f, "access"),
              value(f, "resets/reset/value"),
              [e.text for e in find(f, "modifiedWriteValue")]) for f in find(register, "field")])
    access = {"ro": "read-only", "rw": "read-write", "w1c": "read-write", "port": "read-write"}
    assert got == {r.name: (r.offset, access[r.access], [
        (f.name, f.lsb, f.width, access[r.access], f.reset,
         ["oneToClear"] * (r.access == "w1c")) for f in r.fields])
        for r in table(core.learning, core.rules, core.options, core.build)}

    ports = {value(p, "name"): (value(p, "wire/direction"), 1 + sum(
        value(v, "left") for v in find(p, "wire/vectors/vector"))) for p in find(
            root, "model/ports/port")}
    assert ports == {"clk": ("in", 1), "rst": ("in", 1)} | {
        name: (port["dir"], port["width"]) for name, port in manifest["ports"].items()}
    buses = {value(b, "name"): (
        find(b, "busType")[0].get("name"), [role for role in ("slave", "master") if find(b, role)],
        [e.text for e in find(b, "abstractionTypes/abstractionType/portMaps/portMap/"
                                 "physicalPort/name")])
        for b in find(root, "busInterfaces/busInterface")}
    assert {name: bus[:2] for name, bus in buses.items()} == {
        "s_axil": ("AXI4-Lite", ["slave"]), "s_axis": ("AXI4Stream", ["slave"]),
        "m_axis": ("AXI4Stream", ["master"])}
    # Every port belongs to one bus.
    assert sorted(port for *_, found in buses.values() for port in found) == sorted(
        manifest["ports"])
    named = [e.text for e in find(root, "fileSets/fileSet/file/name")]
    assert named == ["core.v", "core_registers.h"]
    assert set(named) <= {*files, manifest["verilog"]}


class Refuses(MessagePrinter):
    """No warning of the importer passes unseen."""

    def print_message(self, severity, text, src_ref):
        raise AssertionError(f"{severity}: {text}")


def test_other_reader(core, tmp_path):
    """PeakRDL's importer finds the registers of the table, and nothing to warn of."""
    path = tmp_path / "core.xml"
    path.write_text(accompanying(describe(core), core.network)["core.xml"])
    compiler = RDLCompiler(message_printer=Refuses())
    IPXACTImporter(compiler).import_file(str(path))
    block, = compiler.elaborate().top.children()
    access = {"read-only": AccessType.r, "read-write": AccessType.rw}
    assert [(r.inst_name, r.absolute_address, r.get_property("regwidth"), r.get_property("desc"), [
        (f.inst_name, f.low, f.width, f.get_property("sw"), f.get_property("onwrite"),
         f.get_property("reset")) for f in r.fields()]) for r in block.registers()] == [
        (r["name"], r["offset"], 32, r["description"], [
            (f["name"], f["lsb"], f["width"], access[f["access"]],
             OnWriteType.woclr if f["one_to_clear"] else None, f["reset"]) for f in r["fields"]])
        for r in registers(describe(core))]
