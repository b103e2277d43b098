# -*- coding: utf-8; mode: tcl; tab-width: 4; indent-tabs-mode: nil; c-basic-offset: 4 -*- vim:fenc=utf-8:ft=tcl:et:sw=4:ts=4:sts=4
#
# Ports that are built by CMake, outside of their source directory.
#
# PortGroup     cmake 1.0
#
# options: cmake.source_dir, cmake.build_dir, cmake.build_type

options cmake.source_dir cmake.build_dir cmake.build_type
default cmake.source_dir    {${worksrcpath}}
default cmake.build_dir     {${workpath}/build}
default cmake.build_type    Release

depends_build-append        bin:cmake:cmake

default configure.dir       {${cmake.build_dir}}
default configure.cmd       cmake
default configure.pre_args  {[cmake::arguments]}
default build.dir           {${cmake.build_dir}}
default destroot.dir        {${cmake.build_dir}}
default test.dir            {${cmake.build_dir}}
default test.target         test

namespace eval cmake {}

# What every project is told: where things go, and what not to look at.
proc cmake::arguments {} {
    set arguments [list \
        -DCMAKE_BUILD_TYPE=[option cmake.build_type] \
        -DCMAKE_INSTALL_PREFIX=[option prefix] \
        -DCMAKE_INSTALL_LIBDIR=lib \
        -DCMAKE_PREFIX_PATH=[option prefix] \
        -DCMAKE_C_COMPILER=[option configure.cc] \
        -DCMAKE_COLOR_MAKEFILE=OFF \
        -DCMAKE_FIND_PACKAGE_NO_PACKAGE_REGISTRY=ON \
        -Wno-dev]
    lappend arguments [option cmake.source_dir]
    return $arguments
}

pre-configure {
    file mkdir ${cmake.build_dir}
}
