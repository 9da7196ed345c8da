#!/bin/sh
# What the tools, their --help, their pages and lsm-tools(7) say is one and the same.
. "${top_srcdir:?}/tests/tool/prelude.sh"
all='lsm-compact lsm-dump lsm-load lsm-repair lsm-stat lsm-verify'
tools=
for tool in $all; do
    [ ! -x "$top_builddir/$tool" ] || tools="$tools $tool"
done
# plain SECTION FILE: a section of a page without the commonest markup.
plain() {
    sed -n "/^\.SH $1/,/^\.SH/p" "$2" | sed 's/\\-/-/g; s/\\f.//g; s/\\(dq/"/g'
}
# rows SECTION FILE: the lines of its tables of numbers, "number text".
rows() {
    plain "$1" "$2" | sed -nE 's/^([0-9]+)\t(.*)/\1 \2/p'
}

rows 'EXIT STATUS' "$top_builddir/man/lsm-tools.7" >common
[ "$(wc -l <common)" = 8 ] || fail 'lsm-tools(7) has no table of exit codes'
for tool in $tools; do
    page=$top_builddir/man/$tool.1
    [ -e "$page" ] || { fail "$tool has no page"; continue; }
    "$tool" --help >help || fail "$tool --help"

    # Every option in one is in the other, the short ones too.
    sed -n 's/^ \{2,6\}\(-.*\)/\1/p' help | sed 's/  .*//' | tr ', =[' '\n' |
        grep -E '^(--[a-z-]+|-[A-Za-z])$' | sort -u >wanted
    # Names of options stand on the line behind .TP.
    plain OPTIONS "$page" | awk 'names { print } { names = /^\.TP/ }' | tr -s ' ,"=[' '\n' |
        grep -E '^(--[a-z-]+|-[A-Za-z])$' | sort -u >got
    same got wanted
    plain SYNOPSIS "$page" | grep -qF DIR || fail "$tool: no DIR in the synopsis"

    # Exit codes: those of --help are those of the page; each row begins as the common one.
    rows 'EXIT STATUS' "$page" >table
    [ -s table ] || fail "$tool: no table of exit codes"
    cut -d' ' -f1 table >got
    sed -n '/^Exit status/,/^The manual/p' help | grep -oE '(^| )[0-9]+ ' | tr -d ' ' >wanted
    same got wanted
    while read -r number text; do
        first=$(sed -n "s/^$number //p" common | sed 's/[,;].*//')
        case $text in
        "$first"*) [ -n "$first" ] || fail "$tool: exit code $number is not in lsm-tools(7)" ;;
        *) fail "$tool: exit code $number is '$text', in lsm-tools(7) it is '$first'" ;;
        esac
    done <table
    plain 'SEE ALSO' "$page" | grep -q 'lsm-tools (7)' || fail "$tool.1 does not name lsm-tools(7)"
    grep -q "^.BR $tool (1)" "$top_builddir/man/lsm-tools.7" || fail "lsm-tools(7) lacks $tool"
done

# The sentences of lsm-tools(7) are those of the library: strings of the sources, put together where
# a string goes on in the next line.
find "$top_srcdir/engine" "$top_srcdir/tools" -name '*.c' -exec cat {} + | tr -s '\n ' ' ' |
    sed 's/" "//g' >literals
plain SYMPTOMS "$top_srcdir/man/lsm-tools.7.in" | awk 'names { print } { names = /^\.TP/ }' |
    sed -n 's/^\.B "\(.*\)"$/\1/p' >sentences
[ "$(wc -l <sentences)" -gt 12 ] || fail 'lsm-tools(7) has no sentences'
grep -v '^No space left on device$' sentences | sed 's/\.\.\./\n/g' | sed "s/^[' ]*//; s/[' :]*$//" |
    while read -r part; do
        [ ${#part} -lt 6 ] || grep -qF -e "$part" literals || echo "nobody says '$part'"
    done >unsaid
[ ! -s unsaid ] || fail "$(cat unsaid)"

# The options that it names are there.
sed 's/\\-/-/g; s/\\fR//g; s/^\.[A-Z]* *//; s/"//g' "$top_srcdir/man/lsm-tools.7.in" |
    grep -oE 'lsm-[a-z]+ (-[^ |]+ )*-[^ |]+' >uses
while read -r tool options; do
    [ -x "$top_builddir/$tool" ] || continue
    "$tool" --help >help
    for option in $options; do
        case $option in
        --*) option=${option%%=*} ;;
        *) option=$(echo "$option" | cut -c1-2) ;;
        esac
        grep -qE -e "(^| )$option([^a-z-]|\$)" help || fail "lsm-tools(7): $tool has no $option"
    done
done <uses
[ "$(wc -l <uses)" -gt 12 ] || fail 'lsm-tools(7) has no commands'

# Its examples run, and those of the tools' pages that need nothing but a database.
XDG_STATE_HOME=$work/state
export XDG_STATE_HOME
printf 'hello\nworld\n' | lsm-load -q -T --create words.db || fail 'lsm-load'
for page in lsm-tools.7 lsm-compact.1 lsm-verify.1; do
    sed -n '/^\.SH EXAMPLES/,/^\.SH SEE/{/^\.EX/,/^\.EE/{/^\.E[XE]/d;s/\\-/-/g;s/\\e/\\/g;p}}' \
        "$top_srcdir/man/$page.in" >examples
    [ -s examples ] || fail "$page has no examples"
    while read -r command; do
        tool=${command%% *}
        case $tool in
        lsm-*) [ -x "$top_builddir/$tool" ] || continue ;;
        esac
        expect 0 sh -c "$command"
        [ ! -s err ] || fail "the example '$command' complains: $(cat err)"
    done <examples
done
same words.digest copy.digest
finish
