# Stands in for the SlicerConfig.cmake of a Slicer build, so that the extension's own CMake lists can install and
# package it without building Slicer: a scripted extension has nothing to compile.
#
#   cmake -S . -B build -DSlicer_DIR=$PWD/.github/slicer -DSlicer_VERSION=5.12
#   cmake --install build --prefix package

if(NOT DEFINED Slicer_VERSION)
  set(Slicer_VERSION 5.12)
endif()
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-${Slicer_VERSION}/qt-scripted-modules)
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR ${Slicer_QTSCRIPTEDMODULES_LIB_DIR})
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/CheckExtension.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/PackExtension.cmake)
