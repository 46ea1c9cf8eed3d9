# Stands in for Vivado: runs a script, with procedures in place of Vivado's commands that check what
# they are given against commands.tcl and write each call down.
#   tclsh stand_in.tcl SCRIPT RECORD PORTS
# SCRIPT is run, its calls go to RECORD, one a line, with "." for the script's folder. PORTS are the
# core's, a list of name and width. What is wrong ends it with one line.
lassign $argv script record top
set home [file dirname [file normalize $script]]
set calls [open $record w]
set made {}                     ;# folders of projects
set ports {}                    ;# of the block design
set cells {}                    ;# its IP
set driver {}                   ;# of each pin
set links {}                    ;# between interfaces
set core {}                     ;# the packaged core's interfaces by type

# The script has an interpreter of its own, where nothing is but Tcl and Vivado's commands.
interp create vivado
interp alias vivado unknown {} unknown_command

proc fail {what} {
    error $what
}

proc command {name options positions body {recorded 1}} {
    if {[set space [namespace qualifiers $name]] ne ""} {
        interp eval vivado [list namespace eval $space {}]
    }
    interp alias vivado $name {} call $name $options $positions $body $recorded
}

proc query {name options positions body} {
    command $name $options $positions $body 0
}

proc call {name options positions body recorded args} {
    lassign [checked $name $options $positions $args] given at
    if {$recorded} {write_down $name $args}
    apply [list {given at} $body ::] $given $at
}

proc write_down {name arguments} {
    set call [string map [list $::home .] [list $name {*}$arguments]]
    puts $::calls [regsub -all {\s+} $call " "]
}

# Options by name and the rest, each of its kind.
proc checked {name options positions arguments} {
    set given {}
    set at {}
    while {[llength $arguments]} {
        set arguments [lassign $arguments word]
        if {![regexp {^-[a-z]} $word]} {
            lappend at $word
        } elseif {![dict exists $options $word]} {
            fail "$name: unknown option $word"
        } elseif {[dict get $options $word] eq "flag"} {
            dict set given $word 1
        } elseif {![llength $arguments]} {
            fail "$name: $word without a value"
        } else {
            set arguments [lassign $arguments value]
            check $name [dict get $options $word] $value
            dict set given $word $value
        }
    }
    set last [lindex $positions end]
    if {[string index $last end] eq "*"} {
        set positions [lreplace $positions end end]
        for {set n [llength $positions]} {$n < max([llength $at], 1)} {incr n} {
            lappend positions [string range $last 0 end-1]
        }
    }
    # The objects of set_property may be an option, and what it sets too.
    if {$name eq "set_property" && [dict exists $given -name]} {
        set positions {}
    }
    if {[llength $at] != [llength $positions]} {
        fail "$name: [llength $at] arguments, not [llength $positions]: $at"
    }
    foreach value $at kind $positions {
        check $name $kind $value
    }
    list $given $at
}

proc check {name kind value} {
    switch -- $kind {
        any {}
        in {if {![file isfile $value]} {fail "$name: no file $value"}}
        out {
            if {![file isdirectory [file dirname $value]]} {fail "$name: no folder for $value"}
            close [open $value w]
        }
        new {file mkdir $value; dict set ::made [file tail $value] $value}
        number {if {![string is double -strict $value]} {fail "$name: $value is no number"}}
        object {
            foreach one $value {
                if {![regexp {^[a-z_]+:} $one]} {fail "$name: $one is no object"}
            }
            if {![llength $value]} {fail "$name: no object"}
        }
        default {
            if {$value ni [lindex $kind 0]} {fail "$name: $value is none of [lindex $kind 0]"}
        }
    }
}

proc property {given at} {
    if {[dict exists $given -name]} {
        set pairs [list [dict get $given -name] [dict get $given -value]]
        set objects [dict get $given -objects]
    } elseif {[dict exists $given -dict]} {
        set pairs [dict get $given -dict]
        set objects [lindex $at 0]
    } else {
        lassign $at name value objects
        set pairs [list $name $value]
    }
    check set_property object $objects
    foreach object $objects {
        regexp {^([a-z_]+):(.*)$} $object - kind of
        foreach {name value} $pairs {
            if {$kind eq "cell"} {
                set known [dict get $::parameters [dict get $::cells $of]]
                if {[string map {CONFIG. ""} $name] ni $known || ![string match CONFIG.* $name]} {
                    fail "set_property: $of has no $name"
                }
            } elseif {$name ni [dict get $::properties $kind]} {
                fail "set_property: $kind has no property $name"
            }
            if {[string match *.TCL.POST $name]} {check set_property in $value}
            if {$name eq "ip_repo_paths" && ![file isfile [file join $value component.xml]]} {
                fail "set_property: no IP in $value"
            }
        }
    }
}

proc constraints {file} {
    interp eval vivado [list source $file]
}

# Ports of the core, or around a block design its own.
proc top_ports {patterns} {
    set found {}
    foreach pattern $patterns {
        if {[llength $::ports]} {
            set base [regsub {(_clk_[pn])?(\[0\])?$} $pattern ""]
            set ok [expr {$base in $::ports}]
        } else {
            set base [regsub {\[\*\]$} $pattern ""]
            set ok [expr {[dict exists $::top $base]
                && ($base ne $pattern) == ([dict get $::top $base] > 1)}]
        }
        if {!$ok} {fail "get_ports: no port $pattern"}
        lappend found top_port:$pattern
    }
    return $found
}

# ---- packaging
proc interface_of {ports} {
    expr {[llength $ports] == 1 ? $ports : [regsub {_[^_]+$} [lindex $ports 0] ""]}
}

proc interface {name} {
    foreach names [dict values $::core] {
        if {$name in $names} {return $name}
    }
    fail "the core has no interface $name"
}

# ---- block design
proc ip {vlnv parameters pins interfaces} {
    dict set ::parameters $vlnv $parameters
    dict set ::pins $vlnv $pins
    dict set ::interfaces $vlnv $interfaces
}

proc new_cell {name vlnv} {
    if {![dict exists $::pins $vlnv]} {fail "create_bd_cell: no IP $vlnv"}
    dict set ::cells $name $vlnv
    return cell:$name
}

proc part_of {table kind path} {
    lassign [split $path /] cell name
    if {![dict exists $::cells $cell]} {fail "no cell $cell"}
    if {![dict exists $table [dict get $::cells $cell] $name]} {fail "$cell has no $kind $name"}
    return $path
}

proc pin_of {path} {return pin:[part_of $::pins pin $path]}
proc interface_pin_of {path} {return intf_pin:[part_of $::interfaces interface $path]}

proc port_of {kind name} {
    if {$name ni $::ports} {fail "no port $name"}
    return $kind:$name
}

# One driver; a pin is driven once.
proc connect {objects} {
    set drivers {}
    set driven {}
    foreach object $objects {
        lassign [split [regsub {^[a-z_]+:} $object ""] /] cell name
        if {[string match port:* $object]
                || [dict get $::pins [dict get $::cells $cell] $name] eq "out"} {
            lappend drivers $object
        } else {
            lappend driven $object
        }
    }
    if {[llength $drivers] != 1} {fail "connect_bd_net: [llength $drivers] drivers: $objects"}
    foreach pin $driven {
        if {[dict exists $::driver $pin]} {fail "connect_bd_net: $pin is driven already"}
        dict set ::driver $pin $drivers
    }
}

proc join_interfaces {one other} {
    foreach side [list $one $other] {
        if {[dict exists $::links $side]} {fail "connect_bd_intf_net: $side is connected already"}
    }
    dict set ::links $one $other
    dict set ::links $other $one
}

# Every pin driven, every interface connected, and both of its ends on one clock.
proc whole_design {} {
    dict for {cell vlnv} $::cells {
        dict for {pin direction} [dict get $::pins $vlnv] {
            if {$direction eq "in" && ![dict exists $::driver pin:$cell/$pin]} {
                fail "validate_bd_design: nothing drives $cell/$pin"
            }
        }
        dict for {name clocks} [dict get $::interfaces $vlnv] {
            set here intf_pin:$cell/$name
            if {![dict exists $::links $here]} {fail "validate_bd_design: $cell/$name is open"}
            set there [dict get $::links $here]
            if {$clocks eq "" || ![string match intf_pin:* $there]} continue
            set shared 0
            foreach a [clocks_of $here] {
                if {$a in [clocks_of $there]} {set shared 1}
            }
            if {!$shared} {fail "validate_bd_design: $here and $there have different clocks"}
        }
    }
}

proc clocks_of {interface} {
    regexp {:(.*)/(.*)$} $interface - cell name
    set found {}
    foreach pin [dict get $::interfaces [dict get $::cells $cell] $name] {
        set direction [dict get $::pins [dict get $::cells $cell] $pin]
        set pin pin:$cell/$pin
        lappend found [expr {$direction eq "out" ? $pin : [dict get $::driver $pin]}]
    }
    return $found
}

proc unknown_command {name args} {
    fail "unknown command $name"
}

source [file join [file dirname [file normalize [info script]]] commands.tcl]
if {[catch {interp eval vivado [list source $script]} said]} {
    puts stderr $said
    exit 1
}
