#!/bin/sh
# lsm-verify: every exit code, what it says of damage, what it leaves out, and that it changes
# nothing.
. "${top_srcdir:?}/tests/tool/prelude.sh"
: "${work:?}"
XDG_STATE_HOME=$work/state
export XDG_STATE_HOME

# The whole directory, so that a change of anything shows.
listing() {
    find "$1" -printf '%p %y %s %T@ %C@ %n\n' | sort
    find "$1" -type f -exec cksum {} + | sort
}
# damage FILE OFFSET: changes one byte there.
damage() {
    byte=$(od -An -tu1 -j"$2" -N1 "$1" | tr -d ' ')
    # shellcheck disable=SC2059 # the format is made of the byte
    printf "\\$(printf %03o $((byte ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>dd.err
}
member() {
    json_lines "$1" <out
}

random_dump 31415 5000 | lsm-load -q --create --options=table_size=64KiB db || fail 'lsm-load'
printf 'a\n1\nb\n2\n' | lsm-load -q -T --create -s small db || fail 'a second family'
lsm-compact -q db || fail 'lsm-compact'

# A sound database: nothing is said, nothing is changed, at any level.
listing db >before
for level in quick normal full; do
    expect 0 lsm-verify --level=$level db
    says out '0 damages, 0 warnings, 0 notes'
done
listing db >after
same after before
rm db/LOCK
expect 0 lsm-verify db
[ ! -e db/LOCK ] || fail 'a LOCK file was made'
expect 0 lsm-verify --json --level=full db
[ "$(member schema)" = lsm-verify/1 ] || fail 'no schema'
[ "$(member entries)" -ge 5000 ] || fail 'not all entries were read'
[ "$(member live)" = false ] || fail 'nobody has it open'
[ "$(member damages)" = 0 ] || fail 'a false alarm'

# One byte of a block: told with its place, once, by every level that reads blocks.
table=$(find db -name '*.sst' -size +40k | sort | head -n 1)
cp -r db sound
damage "$table" 5000
expect 0 lsm-verify --level=quick db
for level in normal full; do
    expect 4 lsm-verify --json --level=$level db
    [ "$(member damages)" = 1 ] || fail 'one damage is not told once'
    [ "$(member findings.0.id)" = 4-block-checksum ] || fail 'the id'
    [ "$(member findings.0.file)" = "$(basename "$table")" ] || fail 'the file'
    [ "$(member findings.0.offset)" -le 5000 ] || fail 'the offset'
    [ "$(member findings.0.cf)" = default ] || fail 'the family'
    [ "$(member findings.0.has-range)" = true ] || fail 'the range'
    [ -z "$(member findings.0.first)" ] || fail 'a key is shown'
    [ "$(member exit)" = 4 ] || fail 'the exit code in the object'
done
expect 4 lsm-verify --json --show-data --key-format=hex db
[ -n "$(member findings.0.first.hex)" ] || fail 'no key is shown'
expect 4 lsm-verify -q db
says out 'damage 4-block-checksum'
lacks out 'level normal'
expect 4 lsm-verify --first-error db
expect 0 lsm-verify -E ignore=4-block-checksum db
says out '1 ignored'
expect 0 lsm-verify --cf=small db
expect 4 lsm-verify --cf=default db
expect 4 lsm-verify --file="$(basename "$table")" db
other=$(find db -name '*.sst' ! -name "$(basename "$table")" | sort | head -n 1)
expect 0 lsm-verify --file="$(basename "$other")" db
expect 16 lsm-verify --file=000000.sst db
expect 16 lsm-verify --cf=nobody db

# What was found sound is remembered outside of the database, what was not is not.
expect 4 lsm-verify --since-last db
expect 4 lsm-verify --json --since-last db
[ "$(member tables-skipped)" -gt 0 ] || fail 'nothing was remembered'
[ "$(member damages)" = 1 ] || fail 'a damaged table was remembered as sound'
expect 4 lsm-verify --json --max-age=1d db
[ "$(member tables-skipped)" -gt 0 ] || fail 'nothing was young enough'
expect 4 lsm-verify --json --since-last --level=full db
[ "$(member tables-skipped)" = 0 ] || fail 'what was verified normally is not verified in full'
expect 4 lsm-verify --json --resume db
[ "$(member tables-skipped)" = 0 ] || fail 'a run that came to its end is not resumed'
expect 0 lsm-verify --since-last --state=own.state sound
says own.state 'lsm-verify-state 1'
echo rubbish >bad.state
expect 8 lsm-verify --since-last --state=bad.state sound
[ "$(find db sound -name '*state*' | wc -l)" = 0 ] || fail 'a state file in a database'

# A run that is stopped tells what it found, and is resumed.
rm -rf state
lsm-verify --resume --threads=1 --rate=200K sound >out 2>err &
verifier=$!
await 'a table was remembered' sh -c 'sleep 1; kill -0 '$verifier
kill -TERM $verifier
wait $verifier
code=$?
[ $code = 32 ] || fail "SIGTERM ended lsm-verify with $code instead of 32"
grep -q '^run .* open$' state/libengine/verify-* || fail 'the stopped run is not remembered as such'
expect 0 lsm-verify --resume sound
grep -q '^run .* complete$' state/libengine/verify-* || fail 'the run that ended is not remembered'

# Files that are missing, cut, or no files.
cp -r sound missing
rm "missing/$(basename "$table")"
expect 4 lsm-verify --json missing
[ "$(member findings.0.id)" = 2-table-missing ] || fail 'a missing table'
[ "$(member damages)" = 1 ] || fail 'a missing table is told once'
cp -r sound cut
truncate -s 20000 "cut/$(basename "$table")"
expect 4 lsm-verify --json cut
[ "$(member findings.0.id)" = 2-table-size ] || fail 'a cut table'
[ "$(member damages)" = 1 ] || fail 'a cut table is told once'
cp -r sound odd
mv "odd/$(basename "$table")" elsewhere
ln -s "$work/elsewhere" "odd/$(basename "$table")"
expect 4 lsm-verify --json odd
[ "$(member findings.0.id)" = 2-symlink ] || fail 'a symbolic link'
rm "odd/$(basename "$table")"
mkfifo "odd/$(basename "$table")"
expect 4 lsm-verify --json odd
[ "$(member findings.0.id)" = 2-not-a-file ] || fail 'a pipe'
cp -r sound long
if truncate -s 1T long/STAGE 2>truncate.err; then # it was closed, and needs none
    expect 0 lsm-verify long
fi
cp -r sound open
chmod 666 "open/$(basename "$table")"
ln open/CURRENT second-name
touch open/rubbish open/7.sst
expect 0 lsm-verify -v open
for id in 0-mode-open 2-hard-link 2-foreign-file 2-odd-name; do
    says out $id
done
cp -r sound headless
rm headless/CURRENT
expect 4 lsm-verify --json headless
[ "$(member findings.0.id)" = 0-current-missing ] || fail 'no CURRENT'
[ "$(member entries)" -ge 5000 ] || fail 'without CURRENT the tables are not read'
rm headless/MANIFEST-*
expect 4 lsm-verify headless

# One wrong byte in records that were never synced looks like the end of the log to who opens it;
# verify says that it is none, as lsm-repair does. Two wrong bytes are a torn tail.
mkfifo orders
holder unsynced create=true <orders >said 2>&1 &
holder=$!
exec 3>orders
echo 'put 0 600 30' >&3
# shellcheck disable=SC2317 # await calls it
has_written() { [ "$(grep -c ok said)" = 2 ]; }
await 'the holder wrote' has_written
kill -KILL $holder
exec 3>&-
wait $holder 2>killed
cp -r unsynced endless
if truncate -s 1T endless/STAGE 2>truncate.err; then
    expect 4 lsm-verify --json endless
    says out '"6-stage-size"'
fi
expect 0 lsm-dump --wal=all unsynced
line=$(grep '^record ' out | sed -n 579p)
segment=unsynced/$(echo "$line" | sed 's/.* file=\([^ ]*\).*/\1/')
at=$(echo "$line" | sed 's/.* offset=\([0-9]*\).*/\1/')
position=$(echo "$line" | sed 's/.* position=\([0-9]*\).*/\1/')
expect 0 lsm-verify --json unsynced
[ "$(member records)" = 600 ] || fail 'what a killed process left is not all there'
damage "$segment" $((at + 32))
[ "$segment" = unsynced/STAGE ] || damage unsynced/STAGE $((position + 32))
expect 4 lsm-verify --json unsynced
[ "$(member findings.0.id)" = 6-record-checksum ] || fail 'one wrong byte at the end of the log'
[ "$(member records)" = 600 ] || fail 'what stands behind the wrong byte was not looked at'
expect 4 lsm-repair -n unsynced
says out '600 records'
damage "$segment" $((at + 36))
[ "$segment" = unsynced/STAGE ] || damage unsynced/STAGE $((position + 36))
expect 0 lsm-verify --json unsynced
[ "$(member records)" = 578 ] || fail 'a torn tail'
expect 0 lsm-repair -n unsynced

# A manifest that was cut behind a clean close is whole, and there is no log that contradicts it.
# Who opened it would find the database as it was then, and remove the tables that came after.
printf 'a\n1\nb\n2\n' | lsm-load -q -T --create closed || fail 'the first life'
cp -r closed closed-once
printf 'c\n3\nd\n4\n' | lsm-load -q -T closed || fail 'the second life'
manifest=closed/$(basename "$(find closed -name 'MANIFEST-*' | sort | tail -n 1)")
end=$(lsm-dump --manifest closed |
    sed -n 's/^frame offset=\([0-9]*\) length=\([0-9]*\) .* snapshot.*/\1 \2/p')
expect 0 lsm-verify closed
lsm-dump closed >closed.wanted
truncate -s $((${end% *} + ${end#* })) "$manifest"
ls closed >closed.files
for how in --io=auto --io=posix; do
    expect 4 lsm-dump $how closed
    says err 'edits are lost; see lsm-repair'
    echo e 5 | tr ' ' '\n' >closed.more
    expect 4 lsm-load $how -T -f closed.more closed
done
ls closed | cmp -s - closed.files || fail 'who may not open it removed something'
expect 4 lsm-verify --json closed
says out '"1-edits-lost"'
expect 4 lsm-repair -n closed
says out 1-edits-lost
expect 1 lsm-repair -q -y closed
expect 0 lsm-verify closed
expect 0 lsm-dump closed
same out closed.wanted
expect 0 lsm-repair -n closed
expect 0 lsm-verify closed-once

# A life that only made a family leaves no table. LOCK remembers its last edit.
cp -r closed-once family
printf 'VERSION=3\nformat=print\ndatabase=empty\ntype=btree\nHEADER=END\nDATA=END\n' |
    lsm-load -q --create family || fail 'a family without pairs'
expect 0 lsm-verify family
expect 0 lsm-dump -l family
[ "$(tr '\n' ' ' <out)" = 'default empty ' ] || fail 'the families'
manifest=family/$(basename "$(find family -name 'MANIFEST-*' | sort | tail -n 1)")
end=$(lsm-dump --manifest family |
    sed -n 's/^frame offset=\([0-9]*\) length=\([0-9]*\) .* snapshot.*/\1 \2/p')
cp -r family restored
truncate -s $((${end% *} + ${end#* })) "$manifest"
expect 4 lsm-dump family
says err 'LOCK says that there was edit'
expect 4 lsm-verify family
says out 1-edits-lost
expect 4 lsm-repair -n family
says out 'column families may be missing'
expect 65 lsm-repair -q -y family
expect 0 lsm-verify family
expect 0 lsm-dump -l family
[ "$(cat out)" = default ] || fail 'the families after the repair'
expect 1 lsm-repair --undo-last -f family
expect 0 lsm-verify family

# A copy without LOCK, and one with, are whole.
rm -f restored/LOCK
expect 0 lsm-verify restored
expect 0 lsm-dump -l restored

# What does not fit into the memory is unmeasured, and said.
awk 'BEGIN { print "big"; for (i = 0; i < 400000; i++) printf "0123456789"; print "" }' |
    lsm-load -q -T --create large || fail 'a large value'
lsm-compact -q large
expect 0 lsm-verify large
expect 8 lsm-verify --memory=1MiB large
says out unmeasured

# Others have the database open: it is one more that reads; --offline wants it alone.
mkfifo pipe
holder "$work/sound" 'create=false' <pipe >held 2>&1 &
holder=$!
exec 3>pipe
echo 'put 0 100 100' >&3
await 'the holder has it open' grep -q ok held
expect 0 lsm-verify --json --level=full sound
[ "$(member live)" = true ] || fail 'it is open, and not said so'
expect 8 lsm-verify --offline sound
exec 3>&-
wait $holder
expect 0 lsm-verify --offline --level=full sound

# The command line.
expect 8 lsm-verify nowhere
expect 16 lsm-verify /dev/null
mkdir empty
expect 8 lsm-verify empty
[ -z "$(ls empty)" ] || fail 'something was made where there is no database'
for wrong in '' '--level=most db' '--sample=0 db' '--sample=101 db' '-E ignore=nothing db' \
    '-E other db' '--max-age=3 db' '--max-age=d db' '--memory=x db' 'db db' '--nothing db'; do
    # shellcheck disable=SC2086 # a list
    expect 16 lsm-verify $wrong
done
expect 0 lsm-verify --list-findings
[ "$(grep -c '^[0-8]-' out)" -ge 60 ] || fail 'there are fewer than 60 findings'
expect 0 lsm-verify --json --list-findings
[ "$(member ids.0.id)" = 0-current-missing ] || fail 'ids as JSON'
expect 0 lsm-verify --sample=10 sound
expect 0 lsm-verify --io=posix --progress=always sound
expect 8 sh -c 'lsm-verify sound >/dev/full'
finish
