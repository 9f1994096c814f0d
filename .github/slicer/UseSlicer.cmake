# The macros of Slicer and CTK that the extension uses, as far as they install files.

function(_install_in_scripted_modules base)
  foreach(file IN LISTS ARGN)
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      message(FATAL_ERROR "${CMAKE_CURRENT_SOURCE_DIR}/CMakeLists.txt lists ${file}, which does not exist.")
    endif()
    get_filename_component(folder ${base}/${file} DIRECTORY)
    install(
      FILES ${file}
      DESTINATION ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}/${folder}
      COMPONENT RuntimeLibraries
      )
  endforeach()
endfunction()

function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(module "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  _install_in_scripted_modules(. ${module_SCRIPTS} ${module_RESOURCES})
endfunction()

function(ctkMacroCompilePythonScript)
  cmake_parse_arguments(library "" "TARGET_NAME;DESTINATION_DIR;INSTALL_DIR" "SCRIPTS;RESOURCES" ${ARGN})
  if(NOT library_INSTALL_DIR STREQUAL Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR)
    message(FATAL_ERROR "${library_TARGET_NAME} would be installed in ${library_INSTALL_DIR}.")
  endif()
  get_filename_component(folder ${library_DESTINATION_DIR} NAME)
  _install_in_scripted_modules(${folder} ${library_SCRIPTS} ${library_RESOURCES})
endfunction()

function(slicer_add_python_unittest)
endfunction()
