# The checked list: Vivado's commands that the scripts may use, each with its options, what each
# option takes, and what stands in the positions behind them. Sources: AMD UG835 (Tcl commands),
# UG1118 (packaging), UG912 (properties), UG903 (constraints).
#
# Kinds of arguments: flag (none), in (file that exists), dir (folder that exists), out (file in a
# folder that exists), new (folder that is made), object (what a get command gave), number, words
# of a list {word word}, any. A * behind the last position: one or more of it.

command set_part {} {any} {}
command create_project {-part any -force flag -in_memory flag} {any new} {
    set ::cells {}; set ::driver {}; set ::links {}; set ::ports {}
    close [open [file join [lindex $at 1] [lindex $at 0].xpr] w]
}
command open_project {-read_only flag} {in} {}
command close_project {} {} {}
command read_verilog {-sv flag -library any} {in*} {}
command read_xdc {-mode {{default out_of_context}} -unmanaged flag -cells object} {in} {
    constraints [lindex $at 0]
}
command add_files {-fileset {{sources_1 constrs_1}} -norecurse flag -scan_for_includes flag} {in*} {
    foreach file $at {
        if {[file extension $file] eq ".xdc"} {constraints $file}
    }
}
command update_compile_order {-fileset {{sources_1}}} {} {}
command set_property {-dict any -name any -value any -objects object} {any*} {property $given $at}
command synth_design {-top any -part any -mode {{default out_of_context}}
    -flatten_hierarchy {{rebuilt full none}} -directive any} {} {}
command opt_design {-directive any} {} {}
command place_design {-directive any} {} {}
command phys_opt_design {-directive any} {} {}
command route_design {-directive any} {} {}
command report_utilization {-file out -hierarchical flag -hierarchical_percentages flag
    -hierarchical_depth number} {} {}
command report_timing_summary {-file out -max_paths number -delay_type {{min max min_max}}} {} {}
command write_checkpoint {-force flag} {out} {}
command launch_runs {-to_step {{write_bitstream route_design}} -jobs number} {{{synth_1 impl_1}}} {}
command wait_on_run {-timeout number} {{{synth_1 impl_1}}} {}
command open_run {-name any} {{{synth_1 impl_1}}} {}

# constraints
command create_clock {-name any -period number -waveform any -add flag} {object} {}
command set_input_delay {-clock {{clk}} -max flag -min flag} {number object} {}
command set_output_delay {-clock {{clk}} -max flag -min flag} {number object} {}
command set_false_path {-from object -to object -through object} {} {}

# packaging
command ipx::package_project {-root_dir new -vendor any -library any -taxonomy any -module any
    -import_files flag -set_current {{true false}} -force flag} {} {
    set ::core {}; file mkdir [dict get $given -root_dir]; set ::root [dict get $given -root_dir]
}
command ipx::infer_bus_interface {} {any any object} {
    lassign $at names type
    foreach port $names {
        if {![dict exists $::top $port]} {fail "the core has no port $port"}
    }
    dict lappend ::core $type [interface_of $names]
}
command ipx::associate_bus_interfaces {-busif any -clock any -reset any -remove flag} {object} {
    foreach option {-busif -clock -reset} {
        if {[dict exists $given $option]} {interface [dict get $given $option]}
    }
}
command ipx::add_bus_parameter {-quiet flag} {any object} {return parameter:[lindex $at 0]}
command ipx::remove_all_memory_map {} {object} {}
command ipx::add_memory_map {-quiet flag} {any object} {return map:[lindex $at 0]}
command ipx::add_address_block {-quiet flag} {any object} {return block:[lindex $at 0]}
command ipx::add_register {-quiet flag} {any object} {return register:[lindex $at 0]}
command ipx::add_field {-quiet flag} {any object} {
    return field:[string range [lindex $at 1] 9 end].[lindex $at 0]
}
command ipx::create_xgui_files {-logo_file in} {object} {}
command ipx::update_checksums {} {object} {}
command ipx::check_integrity {-quiet flag -kernel flag} {object} {}
command ipx::save_core {} {object} {
    set file [open [file join $::root component.xml] w]; puts $file $::core; close $file
}

# block design
command update_ip_catalog {-rebuild flag} {} {}
command create_bd_design {-dir new} {any} {set ::design [lindex $at 0]}
command create_bd_cell {-type {{ip module}} -vlnv any -reference any} {any} {
    return [new_cell [lindex $at 0] [dict get $given -vlnv]]
}
command create_bd_intf_port {-mode {{Master Slave}} -vlnv any} {any} {
    lappend ::ports [lindex $at 0]; return intf_port:[lindex $at 0]
}
command create_bd_port {-dir {{I O IO}} -type {{clk rst data intr}}} {any} {
    lappend ::ports [lindex $at 0]; return port:[lindex $at 0]
}
command connect_bd_net {-net any} {object*} {connect $at}
command connect_bd_intf_net {-intf_net any} {object*} {join_interfaces {*}$at}
command assign_bd_address {-offset number -range {{4K 64K}} -target_address_space object} {
    object
} {}
command validate_bd_design {-force flag} {} {whole_design}
command save_bd_design {} {} {}
command make_wrapper {-top flag -testbench flag -inst_template flag -fileset any -import flag
    -force flag} {object} {
    set file [file join [dict get $::made board] ${::design}_wrapper.v]
    close [open $file w]
    return $file
}

# What the get commands find.
query current_project {} {} {return project:}
query current_fileset {} {} {return fileset:}
query current_design {} {} {return design:}
query get_runs {} {{{synth_1 impl_1}}} {return run:[lindex $at 0]}
query get_property {} {{{PROGRESS}} object} {return 100%}
query get_ports {} {any} {top_ports [lindex $at 0]}
query get_files {} {any} {
    if {[lindex $at 0] ne "$::design.bd"} {fail "no file [lindex $at 0]"}
    return file:[lindex $at 0]
}
query ipx::current_core {} {} {return core:}
query ipx::get_bus_interfaces {-of_objects object} {any} {
    return [expr {[catch {interface [lindex $at 0]}] ? "" : "interface:[lindex $at 0]"}]
}
query get_bd_cells {} {any} {return cell:[lindex $at 0]}
query get_bd_ports {} {any} {port_of port [lindex $at 0]}
query get_bd_intf_ports {} {any} {port_of intf_port [lindex $at 0]}
query get_bd_pins {} {any} {pin_of [lindex $at 0]}
query get_bd_intf_pins {} {any} {interface_pin_of [lindex $at 0]}
query get_bd_addr_spaces {} {any} {interface_pin_of [lindex $at 0]}
query get_bd_addr_segs {} {any} {
    interface_pin_of [file dirname [lindex $at 0]]
    return segment:[lindex $at 0]
}

set properties {
    core {name version display_name description}
    parameter {value} interface {slave_memory_map_ref} block {usage width range}
    register {address_offset size access}
    field {bit_offset bit_width access description modified_write_value}
    project {ip_repo_paths} fileset {top}
    run {{STEPS.SYNTH_DESIGN.ARGS.MORE OPTIONS} STEPS.SYNTH_DESIGN.TCL.POST
        STEPS.ROUTE_DESIGN.TCL.POST}
    top_port {PACKAGE_PIN IOSTANDARD PULLUP} design {CONFIG_VOLTAGE CFGBVS}
    intf_port {CONFIG.FREQ_HZ} port {CONFIG.POLARITY}
}

# IP: its parameters; its pins, with their direction; its interfaces, with the clocks each may have.
# Sources: AMD PG195 (xdma), PG085 (axis), PG247 (smartconnect), PG065 (clk_wiz), PG164 (reset).
ip xilinx.com:ip:xdma {
    mode_selection pcie_blk_locn en_gt_selection select_quad
    pl_link_cap_max_link_width pl_link_cap_max_link_speed axi_data_width xdma_axi_intf_mm
    xdma_rnum_chnl xdma_wnum_chnl axilite_master_en axilite_master_scale
    axilite_master_size
} {sys_clk in sys_clk_gt in sys_rst_n in axi_aclk out axi_aresetn out} {
    pcie_mgt {} M_AXIS_H2C_0 axi_aclk S_AXIS_C2H_0 axi_aclk M_AXI_LITE axi_aclk
}
ip xilinx.com:ip:util_ds_buf {C_BUF_TYPE} {IBUF_OUT out IBUF_DS_ODIV2 out} {CLK_IN_D {}}
ip xilinx.com:ip:clk_wiz {PRIM_SOURCE RESET_TYPE CLKOUT1_REQUESTED_OUT_FREQ} {
    clk_in1 in resetn in clk_out1 out locked out
} {}
ip xilinx.com:ip:proc_sys_reset {} {
    slowest_sync_clk in ext_reset_in in dcm_locked in peripheral_reset out peripheral_aresetn out
} {}
ip xilinx.com:ip:smartconnect {NUM_SI NUM_MI NUM_CLKS} {aclk in aclk1 in aresetn in} {
    S00_AXI {aclk aclk1} M00_AXI {aclk aclk1}
}
ip xilinx.com:ip:axis_data_fifo {FIFO_DEPTH IS_ACLK_ASYNC} {
    s_axis_aclk in s_axis_aresetn in m_axis_aclk in
} {S_AXIS s_axis_aclk M_AXIS m_axis_aclk}
ip xilinx.com:ip:axis_subset_converter {
    S_TDATA_NUM_BYTES M_TDATA_NUM_BYTES S_HAS_TKEEP M_HAS_TKEEP S_HAS_TLAST M_HAS_TLAST
    S_TUSER_WIDTH M_TUSER_WIDTH TDATA_REMAP TUSER_REMAP TKEEP_REMAP TLAST_REMAP
} {aclk in aresetn in} {S_AXIS aclk M_AXIS aclk}
ip xilinx.com:ip:axis_dwidth_converter {S_TDATA_NUM_BYTES M_TDATA_NUM_BYTES HAS_TKEEP HAS_TLAST} {
    aclk in aresetn in
} {S_AXIS aclk M_AXIS aclk}
ip hwgen:user:core:1.0 {} {clk in rst in} {s_axis clk m_axis clk s_axil clk}
