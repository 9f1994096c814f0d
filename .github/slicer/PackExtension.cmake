# `cmake --build build --target package` makes one archive of what is installed.

set(CPACK_PACKAGE_NAME ${PROJECT_NAME})
set(CPACK_PACKAGE_VERSION ${Slicer_VERSION})
set(CPACK_PACKAGE_FILE_NAME ${PROJECT_NAME}-for-Slicer-${Slicer_VERSION})
set(CPACK_GENERATOR ZIP)
include(CPack)
