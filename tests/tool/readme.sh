#!/bin/sh
# What README.md tells a newcomer to do works: install, then build its program with pkg-config.
. "${top_srcdir:?}/tests/tool/prelude.sh"
need pkg-config
root=$work/root
MAKEFLAGS='' make -C "$top_builddir" install DESTDIR="$root" >install.log 2>&1 ||
    { fail 'make install'; tail -n 30 install.log; finish; }
pc=$(find "$root" -name libengine.pc)
[ -n "$pc" ] || { fail 'libengine.pc is not installed'; finish; }
prefix=$(sed -n 's/^prefix=//p' "$pc")
[ -e "$root$prefix/include/engine/lsm.h" ] || fail 'the header is not installed'
[ -e "$root$prefix/share/man/man3/lsm_put.3" ] || fail 'the pages are not installed'
sed -n '/^```c$/,/^```$/{/^```/d;p}' "$top_srcdir/README.md" >example.c
[ -s example.c ] || { fail 'README.md holds no program'; finish; }
PKG_CONFIG_PATH=$(dirname "$pc")
PKG_CONFIG_SYSROOT_DIR=$root
PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_ALLOW_SYSTEM_LIBS PKG_CONFIG_ALLOW_SYSTEM_CFLAGS
# shellcheck disable=SC2046,SC2086 # lists
${CC:-cc} ${CFLAGS:-} -Werror example.c -o example $(pkg-config --cflags --libs libengine) ||
    fail 'the program of README.md does not compile'
LD_LIBRARY_PATH=$root$prefix/lib ./example >out || fail 'the program of README.md fails'
says out 'hello = world'
expect 0 lsm-dump -p greetings.db
says out ' hello'
# Every file and folder that README.md names is there.
grep -oE '`[a-zA-Z./_-]+/[a-zA-Z./_-]*`|`\./[a-z-]+`' "$top_srcdir/README.md" | tr -d '`' | sort -u |
    while read -r path; do
        case $path in
        */dict/words | *.db) continue ;;
        esac
        [ -e "$top_srcdir/$path" ] || echo "$path"
    done >absent
[ ! -s absent ] || fail "README.md names what is not there: $(cat absent)"
finish
