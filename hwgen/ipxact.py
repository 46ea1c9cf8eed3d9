"""Registers and buses of a core as IP-XACT (IEEE 1685-2014), for tools that integrate it.

:func:`registers` and :func:`buses` are plain records, for writers of other formats.
"""
import xml.etree.ElementTree as ET

SPACE = "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"
VENDOR, LIBRARY, VERSION = "hwgen", "cores", "1.0"
ACCESS = {"rw": "read-write", "ro": "read-only", "w1c": "read-write", "port": "read-write"}
# AMBA bus definitions: logical port -> suffix of ours. Of tuser: label, and the learn bit.
LITE = ("AXI4-Lite", "r0p0", tuple(
    f"{channel}{signal}" for channel, signals in {
        "AW": ("ADDR", "PROT", "VALID", "READY"), "W": ("DATA", "STRB", "VALID", "READY"),
        "B": ("RESP", "VALID", "READY"), "AR": ("ADDR", "PROT", "VALID", "READY"),
        "R": ("DATA", "RESP", "VALID", "READY")}.items() for signal in signals))
STREAM = ("AXI4Stream", "r0p0_1", ("TDATA", "TUSER", "TVALID", "TREADY", "TLAST"))
BUSES = {"s_axil": ("slave", *LITE), "s_axis": ("slave", *STREAM), "m_axis": ("master", *STREAM)}
RANGE = 256                     # bytes of the register space: 8 address bits


def name(manifest: dict) -> str:
    """Name of a core among others; the one that learns and the one that does not have their own."""
    return (f"{manifest['network']['name']}_{manifest['top']}"
            + ("" if manifest["learning"] else "_inference"))


def registers(manifest: dict) -> list[dict]:
    """The registers of a core.

    Parameters
    ----------
    manifest : dict
        ``manifest.json``.

    Returns
    -------
    list of dict
        In the order of their offsets: `name`, `offset` in bytes, `width` in bits, `access`
        ("read-write" or "read-only"), `reset` (a word), `volatile` (the core changes it),
        `description`, and `fields`: dicts of `name`, `lsb`, `width`, `access`, `reset`,
        `one_to_clear`, `description`.
    """
    found = []
    for register in sorted(manifest["registers"], key=lambda r: r["offset"]):
        access = ACCESS[register["access"]]
        fields = [{"name": f["name"], "lsb": f["lsb"], "width": f["width"], "access": access,
                   "reset": f["reset"], "one_to_clear": register["access"] == "w1c",
                   "description": f["doc"]} for f in register["fields"]]
        found.append({
            "name": register["name"], "offset": register["offset"], "width": 32, "access": access,
            "reset": sum(f["reset"] << f["lsb"] for f in fields),
            "volatile": register["access"] != "rw",
            "description": "; ".join(
                f["description"] if f["name"] == "value" else f"{f['name']}: {f['description']}"
                for f in fields),
            "fields": fields})
    return found


def buses(manifest: dict) -> list[dict]:
    """The buses of a core: dicts of `name`, `role` ("slave", "master"), `type`, `ports`.

    `type` is the name of the AMBA bus definition, `ports` a dict of its ports to ours.
    """
    found = []
    for name, (role, kind, version, logical) in BUSES.items():
        ports = {port: f"{name}_{port.lower()}" for port in logical}
        found.append({"name": name, "role": role, "type": kind, "version": version,
                      "ports": {port: ours for port, ours in ports.items()
                                if ours in manifest["ports"]}})
    return found


def component(manifest: dict, files: dict[str, str]) -> str:
    """XML of the component: buses, memory map, ports, files.

    Parameters
    ----------
    manifest : dict
        ``manifest.json``.
    files : dict of str to str
        IP-XACT file type of each file, by its name relative to the XML.
    """
    ET.register_namespace("ipxact", SPACE)
    root = _add(None, "component", vendor=VENDOR, library=LIBRARY,
                name=name(manifest), version=VERSION)
    interfaces = _add(root, "busInterfaces")
    for bus in buses(manifest):
        _bus(interfaces, bus)
    space = _add(_add(root, "memoryMaps"), "memoryMap", name="registers")
    block = _add(space, "addressBlock", name="registers", baseAddress=0, range=RANGE, width=32,
                 usage="register")
    for register in registers(manifest):
        _register(block, register)
    _add(space, "addressUnitBits", text=8)
    model = _add(root, "model")
    _add(_add(model, "views"), "view", name="rtl", componentInstantiationRef="verilog")
    instance = _add(_add(model, "instantiations"), "componentInstantiation", name="verilog",
                    language="verilog", moduleName=manifest["top"])
    _add(_add(instance, "fileSetRef"), "localName", text="files")
    _ports(_add(model, "ports"), manifest)
    contents = _add(_add(root, "fileSets"), "fileSet", name="files")
    for file, kind in files.items():
        _add(contents, "file", name=file, fileType=kind)
    _add(root, "description", text=f"network {manifest['network']['name']}, SHA-256 "
         f"{manifest['digest']}; made by hwgen {manifest['tools']['hwgen']}")
    ET.indent(root)
    return ('<?xml version="1.0" encoding="UTF-8"?>\n<!-- SPDX-License-Identifier: Apache-2.0 -->\n'
            + ET.tostring(root, encoding="unicode") + "\n")


def _add(parent, tag: str, text=None, **children) -> ET.Element:
    """A new element of `parent` with `text`, or with a child for each keyword, in that order."""
    tag = f"{{{SPACE}}}{tag}"
    element = ET.Element(tag) if parent is None else ET.SubElement(parent, tag)
    if text is not None:
        element.text = str(text)
    for name, value in children.items():
        _add(element, name, value)
    return element


def _bus(parent, bus: dict) -> None:
    interface = _add(parent, "busInterface", name=bus["name"])
    names = {"vendor": "amba.com", "library": "AMBA4", "version": bus["version"]}
    _add(interface, "busType").attrib |= names | {"name": bus["type"]}
    abstraction = _add(_add(interface, "abstractionTypes"), "abstractionType")
    _add(abstraction, "abstractionRef").attrib |= names | {"name": f"{bus['type']}_rtl"}
    maps = _add(abstraction, "portMaps")
    for logical, ours in bus["ports"].items():
        found = _add(maps, "portMap")
        _add(found, "logicalPort", name=logical)
        _add(found, "physicalPort", name=ours)
    role = _add(interface, bus["role"])
    if bus["type"] == LITE[0]:
        _add(role, "memoryMapRef").set("memoryMapRef", "registers")


def _register(block, register: dict) -> None:
    found = _add(block, "register", name=register["name"], description=register["description"],
                 addressOffset=f"'h{register['offset']:X}", size=register["width"],
                 volatile=str(register["volatile"]).lower(), access=register["access"])
    for f in register["fields"]:
        field = _add(found, "field", name=f["name"], description=f["description"],
                     bitOffset=f["lsb"])
        _add(_add(field, "resets"), "reset", value=f"'h{f['reset']:X}")
        _add(field, "bitWidth", f["width"])
        _add(field, "volatile", str(register["volatile"]).lower())
        _add(field, "access", f["access"])
        if f["one_to_clear"]:
            _add(field, "modifiedWriteValue", "oneToClear")


def _ports(parent, manifest: dict) -> None:
    clocking = {name: {"dir": "in", "width": 1} for name in ("clk", "rst")}
    for name, port in (clocking | manifest["ports"]).items():
        wire = _add(_add(parent, "port", name=name), "wire", direction=port["dir"])
        if port["width"] > 1:
            _add(_add(wire, "vectors"), "vector", left=port["width"] - 1, right=0)
