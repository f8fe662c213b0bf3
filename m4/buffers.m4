# SPDX-License-Identifier: MIT

# BUFFERS_ARG_YESNO(NAME, HELP): --enable-NAME sets $NAME to yes or no
AC_DEFUN([BUFFERS_ARG_YESNO],
[AC_ARG_ENABLE([$1], [AS_HELP_STRING([--enable-$1], [$2])],
  [AS_CASE([$enableval], [yes|no], [$1=$enableval],
    [AC_MSG_ERROR([--enable-$1 takes yes or no])])],
  [$1=no])])

# BUFFERS_COMPILER_FLAGS(VARIABLE, FLAGS): appends the flags that the compiler accepts
AC_DEFUN([BUFFERS_COMPILER_FLAGS],
[for buffers_flag in $2; do
  AC_MSG_CHECKING([whether $CC accepts $buffers_flag])
  buffers_saved=$CFLAGS
  CFLAGS="$CFLAGS -Werror $buffers_flag"
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM()],
    [AC_MSG_RESULT([yes])
     AS_VAR_APPEND([$1], [" $buffers_flag"])],
    [AC_MSG_RESULT([no])])
  CFLAGS=$buffers_saved
done])

# BUFFERS_LINKER_FLAG(VARIABLE, FLAG): sets VARIABLE to yes if the linker accepts FLAG
AC_DEFUN([BUFFERS_LINKER_FLAG],
[AC_MSG_CHECKING([whether the linker accepts $2])
buffers_saved=$LDFLAGS
LDFLAGS="$LDFLAGS -shared -fPIC $2"
AC_LINK_IFELSE([AC_LANG_SOURCE([int buffers_get(void); int buffers_get(void) { return 0; }])],
  [$1=yes], [$1=no])
LDFLAGS=$buffers_saved
AC_MSG_RESULT([$$1])])

# BUFFERS_PC_DIRECTORIES: sets pc_prefix, pc_includedir and pc_libdir for buffers.pc
#
# Directories below the prefix are written with ${prefix}, so that pkg-config --define-prefix
# relocates them.  Blanks are escaped, since pkg-config splits its output at them; they are not in
# cmake_prefix, for CMake.
AC_DEFUN([BUFFERS_PC_DIRECTORIES],
[buffers_prefix=$prefix
test "$prefix" != NONE || buffers_prefix=$ac_default_prefix
buffers_escape () { AS_ECHO(["$[]1"]) | sed 's/ /\\ /g'; }
for buffers_dir in includedir libdir; do
  AS_VAR_COPY([buffers_value], [$buffers_dir])
  AS_CASE([$buffers_value],
    ["$buffers_prefix"/*],
    [buffers_value="\${prefix}${buffers_value@%:@"$buffers_prefix"}"])
  AS_VAR_SET([pc_$buffers_dir], [`buffers_escape "$buffers_value"`])
done
pc_prefix=`buffers_escape "$buffers_prefix"`
AC_SUBST([pc_prefix])
AC_SUBST([cmake_prefix], [$buffers_prefix])
AC_SUBST([pc_includedir])
AC_SUBST([pc_libdir])])

# BUFFERS_PROCESSOR(VARIABLE, FILE): sets VARIABLE to yes if FILE supports the processor
AC_DEFUN([BUFFERS_PROCESSOR],
[AC_MSG_CHECKING([whether $2 supports the processor])
buffers_saved=$CPPFLAGS
CPPFLAGS="$CPPFLAGS -I$srcdir"
AC_COMPILE_IFELSE([AC_LANG_SOURCE([[#include "$2"]])], [$1=yes], [$1=no])
CPPFLAGS=$buffers_saved
AC_MSG_RESULT([$$1])])
