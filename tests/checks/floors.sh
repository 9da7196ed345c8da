#!/bin/sh
# No folder of engine/ includes from a higher floor, or from a neighbour: see engine/FLOORS.
cd "$top_srcdir" || exit 99
awk '
FILENAME == "engine/FLOORS" { if ($0 !~ /^#/) for (i = 1; i <= NF; i++) floor[$i] = NR; next }
/^[ \t]*#[ \t]*include[ \t]*"/ {
    split(FILENAME, at, "/")
    if (!(at[2] in floor)) { print FILENAME ": folder is not in engine/FLOORS"; bad = 1; nextfile }
    split($0, quoted, "\"")
    if (quoted[2] == "engine/lsm.h") next
    if (split(quoted[2], to, "/") == 2 && to[1] == "proto" && at[2] != "base") next
    if (to[1] != "engine") { print FILENAME ": written from the top, please: " $0; bad = 1 }
    else if (to[2] != at[2] && (!(to[2] in floor) || floor[to[2]] >= floor[at[2]])) {
        print FILENAME ": climbs: " $0; bad = 1
    } else if (to[2] != at[2] && to[3] ~ /_private\.h$/) {
        print FILENAME ": private to its folder: " $0; bad = 1
    }
}
END { exit bad }' engine/FLOORS engine/*/*.[ch]
