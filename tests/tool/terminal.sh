#!/bin/sh
# The tools on a real terminal: the bar, messages beside it, Ctrl-C, completion.
. "${top_srcdir:?}/tests/tool/prelude.sh"
need script bash
trap '' PIPE # who is typed to may be gone
unset NO_COLOR
# Values that do not compress.
awk 'BEGIN { srand(3); for (i = 0; i < 3000; i++) {
    v = ""; for (j = 0; j < 125; j++) v = v sprintf("%08x", int(rand() * 4294967295))
    printf "k%06d\n%s\n", i, v } }' >input
lsm-load -q -T --create db <input || fail 'lsm-load'
lsm-compact -q --compression=none db || fail 'lsm-compact'
lsm-dump --digest db >wanted
escape=$(printf '\033')

# on_terminal COMMAND...: runs it on a terminal of 60 columns; what the terminal got is in ./tty, its
# exit code in $code. What is written to ./keys is typed.
rm -f keys
mkfifo keys
on_terminal() {
    on_terminal_begin "$@"
    on_terminal_end
}
on_terminal_begin() {
    rm -f tty
    export TERM="${terminal:-xterm}"
    script -q -e -f -c "stty cols 60 rows 24; exec $*" tty <keys >/dev/null 2>&1 &
    terminal_pid=$!
    exec 4>keys
}
on_terminal_end() {
    wait $terminal_pid
    code=$?
    exec 4>&-
}
# The lines of the terminal as they were drawn, one a line, without the header of script(1).
drawn() {
    sed '1{/^Script started/d}; /^Script done/d' tty | tr '\r' '\n'
}

# long TOOL: a command of the tool that takes long enough to see its bar.
long() {
    case $1 in
    lsm-dump) echo 'lsm-dump --rate=5M -f dumped db' ;;
    lsm-load) echo 'lsm-load -T --rate=5M -f input db' ;;
    lsm-compact) echo 'lsm-compact --bottommost=force --compression=none --rate=5M db' ;;
    lsm-verify) echo 'lsm-verify --level=full --rate=5M db' ;;
    lsm-repair) echo 'lsm-repair -n --rate=5M db' ;;
    esac
}
bars() {
    drawn | grep -c "B/s.*$escape\[K\$"
}
for tool in lsm-compact lsm-dump lsm-load lsm-repair lsm-verify; do
    command=$(long $tool)
    on_terminal "$command"
    [ $code = 0 ] || { fail "$tool on a terminal ends with $code"; cat tty; }
    [ "$(bars)" -ge 2 ] || { fail "$tool draws no bar"; cat -v tty; }
    drawn | sed -n "s/\(B\/s.*\)$escape\[K\$/\1/p" | awk 'length($0) > 59 { exit 1 }' ||
        fail "$tool: the bar is wider than the terminal"
    # One line: no line feed between two bars, and nothing is left of it behind.
    sed '1{/^Script started/d}; /^Script done/d' tty |
        grep -c "B/s.*$escape\[K" >lines
    [ "$(cat lines)" -le 2 ] || fail "$tool: the bar takes $(cat lines) lines"
    grep -q "$(printf '\r')$escape\[K" tty || fail "$tool: the bar is not cleared"
    ! grep -qE "$escape\[[0-9;]*m" tty || fail "$tool: colours"
    [ "$tool" = lsm-load ] || { lsm-dump --digest db >got; same got wanted; }

    # Where it cannot be drawn, or is not wanted, or nobody looks.
    terminal=dumb on_terminal "$command"
    [ "$(bars)" = 0 ] || fail "$tool: a bar on a dumb terminal"
    on_terminal "sh -c '$command 2>errors'"
    [ "$(bars)" = 0 ] || fail "$tool: a bar, and stderr is no terminal"
    [ ! -s errors ] || fail "$tool: a bar in a file"

    # Ctrl-C.
    on_terminal_begin "$command"
    has_bar() { [ -e tty ] && [ "$(bars)" -ge 1 ]; }
    await "$tool draws its bar" has_bar
    printf '\003' >&4
    on_terminal_end
    [ $code = 32 ] || { fail "Ctrl-C ends $tool with $code instead of 32"; cat -v tty; }
    drawn | grep -q "^$escape\[K$tool: cancelled" ||
        { fail "$tool: the message of Ctrl-C does not stand alone"; cat -v tty; }
    if [ "$tool" = lsm-load ]; then
        expect 0 lsm-dump --digest db
    else
        lsm-dump --digest db >got
        same got wanted
    fi
done

on_terminal "$(long lsm-dump) --progress=never"
[ "$(bars)" = 0 ] || fail 'a bar in spite of --progress=never'

# SIGUSR2 takes the bar away, SIGUSR1 brings it back.
on_terminal_begin "sh -c 'echo \$\$ >pid; exec $(long lsm-dump | sed 's/5M/500K/')'"
has_bar() { [ -s tty ] && [ "$(bars)" -ge 1 ]; }
await 'the bar is drawn' has_bar
kill -USR2 "$(cat pid)"
sleep 0.5 # a bar may be under way
before=$(bars)
sleep 0.5
[ "$(bars)" = "$before" ] || fail 'a bar behind SIGUSR2'
kill -USR1 "$(cat pid)"
has_more() { [ "$(bars)" -gt "$before" ]; }
await 'SIGUSR1 brings the bar back' has_more
kill -TERM "$(cat pid)"
on_terminal_end
[ $code = 32 ] || fail "SIGTERM ends it with $code"

# A name out of a database cannot move the cursor.
name=$(printf 'evil\033[31m\033]0;x\007')
lsm-load -q -T --create --rename="$name" -f input db || fail 'an odd name is refused'
on_terminal "lsm-dump --rate=5M -f dumped --cf '$name' db"
! drawn | grep -q "$escape\[31m" || fail 'a name brings colours'

# Completion, in a bash that somebody types into.
mkdir words.db
on_terminal_begin 'env PS1=: bash --norc --noprofile -i'
printf '. %s/completions/lsm-tools.bash; bind "set enable-bracketed-paste off"\r' "$top_srcdir" >&4
printf 'echo lsm-dump; lsm-dump --io=u\t--dig\twor\t\rexit 0\r' >&4
on_terminal_end
drawn | sed "s/$escape\[[0-9?]*[a-zA-Z]//g" | grep -q 'lsm-dump --io=uring --digest words.db/' ||
    { fail 'bash does not complete'; cat -v tty; }
finish
