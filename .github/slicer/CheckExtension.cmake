# What the Extensions Index asks for must be there.

foreach(name HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if(NOT EXTENSION_${name})
    message(FATAL_ERROR "CMakeLists.txt does not set EXTENSION_${name}.")
  endif()
endforeach()
