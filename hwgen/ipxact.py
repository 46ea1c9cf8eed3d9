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
