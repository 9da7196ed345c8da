# LSM_CHECK_FLAG(CFLAGS or LDFLAGS, FLAG, IF-TAKEN, IF-REFUSED): whether the compiler takes FLAG,
# which may be a shell variable, without a warning.
AC_DEFUN([LSM_CHECK_FLAG],
[lsm_flag="$2"
AC_MSG_CHECKING([whether $CC takes $lsm_flag])
lsm_saved_flags=$[]$1
$1="$[]$1 -Werror $lsm_flag"
AC_LINK_IFELSE([AC_LANG_PROGRAM([[]], [[]])], [lsm_taken=yes], [lsm_taken=no])
$1=$lsm_saved_flags
AC_MSG_RESULT([$lsm_taken])
AS_IF([test $lsm_taken = yes], [$3], [$4])])

# LSM_ADD_FLAGS(VARIABLE, CFLAGS or LDFLAGS, FLAGS): adds to VARIABLE those of FLAGS that are taken.
AC_DEFUN([LSM_ADD_FLAGS],
[for lsm_wanted in $3
do
    LSM_CHECK_FLAG([$2], [$lsm_wanted], [AS_VAR_APPEND([$1], [" $lsm_wanted"])])
done])
