#!/bin/sh
# --resume: after a kill, a cancel or an error a load goes on, and no pair is written twice.
. "${top_srcdir:?}/tests/tool/prelude.sh"
awk 'BEGIN { for (i = 0; i < 30000; i++) printf "key%06d\nvalue %d\n", (i * 7919) % 20000, i }' >many.text
lsm-load -q -T --create -f many.text plain
lsm-dump --digest plain >wanted

# interrupt SIGNAL OPTION...: loads a part and is interrupted.
interrupt() {
    signal=$1
    shift
    mkfifo pipe
    lsm-load -q -T --resume "$@" db <pipe 2>err &
    pid=$!
    exec 3>pipe
    head -n 40000 many.text >&3
    await 'a part is loaded' sh -c "lsm-dump -q --cf lsm-load.resume -p db 2>/dev/null | grep -q pairs="
    kill "-$signal" $pid
    exec 3>&-
    wait $pid
    rm pipe
}

for options in '--batch=500' '--bulk --batch=3000' '--bulk --batch=3000 -n'; do
    for signal in INT KILL; do
        rm -rf db
        # shellcheck disable=SC2086 # lists
        interrupt $signal --create $options
        lsm-load -T -f many.text --dry-run db >out 2>err || fail 'a dry run'
        says err '--resume goes on with it'
        wanted_code=0
        case $options in *-n*) wanted_code=1 ;; esac
        # shellcheck disable=SC2086
        expect $wanted_code lsm-load -T --resume $options -f many.text db
        says out 'passed over'
        expect 0 lsm-dump -l db
        lacks out resume
        case $options in
        *-n*) ;;
        *)
            expect 0 lsm-dump --digest db
            same out wanted
            ;;
        esac
    done
done

# A pair that was loaded before is not written again over what others wrote since.
rm -rf db
interrupt KILL --create --batch=500
printf 'key000000\nof somebody else\n' >other.text
lsm-load -q -T -f other.text db 2>/dev/null
expect 0 lsm-load -T --resume -f many.text db
expect 0 lsm-dump -p db
grep -A1 '^ key000000' out | grep -q 'value 20000' || fail 'the last value of the input does not count'
rm -rf db
interrupt KILL --create --batch=500
printf 'key007919\nof somebody else\n' >other.text
lsm-load -q -T -f other.text db 2>/dev/null
head -n 40000 many.text >first.text
expect 8 lsm-load -T --resume -n -f first.text db
says err 'other options'
expect 8 lsm-load -T --resume -f other.text db
says err 'it is another one'
sed '2s/.*/changed/' many.text >changed.text
expect 8 lsm-load -T --resume -f changed.text db
says err 'the input is not the one'
expect 0 lsm-load -T --resume -f first.text db
expect 0 lsm-dump -p db
grep -A1 '^ key007919' out | grep -q 'somebody' || fail 'a pair was written twice'

# After an error in the input the same input, put right, goes on.
rm -rf db
{ head -n 20000 many.text; echo odd; } >odd.text
expect 8 lsm-load -T --resume --create --batch=500 -f odd.text db
expect 0 lsm-load -T --resume -f many.text db
says out 'passed over 9500 pairs'
expect 0 lsm-dump --digest db
same out wanted
expect 8 lsm-load -T --resume --create -s lsm-load.resume -f odd.text db
says err 'keeps its marker'
finish
