#!/bin/sh
# docs/examples/epoll.c: answers come for all lines, whatever of them is in memory.
. "${top_srcdir:?}/tests/tool/prelude.sh"
example=$top_builddir/docs/examples/epoll

seq 1 3000 | sed 's/.*/&\n&/' | lsm-load -q -T --create numbers.db || fail 'lsm-load'
expect 0 lsm-compact -q numbers.db
for io in auto posix; do
    LSM_IO=$io
    export LSM_IO
    (seq 1 4000; echo 'new=born'; echo last) | "$example" numbers.db >answers 2>complaints ||
        fail "the example fails with $io: $(cat complaints)"
    [ "$(wc -l <answers)" = 4002 ] || fail "$(wc -l <answers) answers with $io"
    says answers '2999 = 2999'
    says answers '3001 is not there'
    says answers 'new is durable'
    [ "$(grep -c ' = ' answers)" = 3000 ] || fail "$(grep -c ' = ' answers) keys found with $io"
done
echo new | "$example" numbers.db >answers || fail 'the example fails'
says answers 'new = born'
finish
