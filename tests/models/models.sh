#!/bin/sh
# Checks the models of this folder with spin, as the list `runs` says: see README.md.
#
#     models.sh [--all] [WORD...]
#
#   --all   every run; otherwise those of a sample that takes a minute
#   WORD    only runs whose line has all these words
#
# One line a run: model, name, flags, states, seconds, result, and what was expected. Exit status 1
# when they differ, 77 without spin.
folder=${top_srcdir-$(dirname "$0")/../..}/tests/models
set_wanted=sample
while [ $# -gt 0 ]; do
    case $1 in
    --all) set_wanted=all ;;
    -*) sed -n '2,10s/^# *//p' "$0" >&2; exit 2 ;;
    *) words="$words $1" ;;
    esac
    shift
done
command -v spin >/dev/null || { echo "spin is not installed"; exit 77; }
compiler=${MODELS_CC-gcc}
command -v "$compiler" >/dev/null || { echo "$compiler is not installed"; exit 77; }
folder=$(cd "$folder" && pwd) || exit 99
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
cd "$work" || exit 99
failed=0 count=0

# wanted LINE: is this run asked for?
wanted() {
    for word in $words; do
        case " $1 " in *" $word "*) ;; *) return 1 ;; esac
    done
}

# build MODEL FLAGS: makes ./pan.
build() {
    model=$1
    shift
    rm -f pan* ./*.trail
    spin -a "$@" "$folder/$model.pml" >spin.out 2>&1 || { cat spin.out; return 1; }
    "$compiler" $optimise -w -DSAFETY -DCOLLAPSE -DMEMLIM=2000 -DVECTORSZ=2048 -o pan pan.c
}

# unreached: lines of the model of which no state was ever reached, in any of its copies, but the ends
# of processes and lines that say that they are rare.
unreached() {
    ./pan -d | sed -nE 's/^[[:space:]]state +([0-9]+) .*\.pml:([0-9]+) =>.*/\2 \1/p' | sort -u >all.out
    awk '/^[[:space:]].*\.pml:[0-9]+, state [0-9]+, / {
            split($0, part, /\.pml:|, state |, "/)
            if ($0 !~ /"-end-"$/) print part[2], part[3]
        }' pan.out | sort -u >never.out
    awk 'FILENAME == "all.out" { all[$1]++; next } { never[$1]++ }
        END { for (line in never) if (never[line] >= all[line]) print line }' all.out never.out |
        sort -n | while read -r line; do
        sed -n "${line}p" "$folder/$model.pml" | grep -v '/\* rare' | sed "s/^/$line: /"
    done
}

# check MODEL NAME EXPECTED FLAGS: one run.
check() {
    model=$1 name=$2 expected=$3
    shift 3
    depth=300000 optimise=-O1
    [ "$expected" = fails ] || optimise=-O2
    result=broken states=- seconds=-
    if build "$model" "$@"; then
        ./pan -m$depth -c1 >pan.out 2>&1
        states=$(sed -nE 's/^ *([0-9.e+]+) states, stored.*/\1/p' pan.out)
        seconds=$(sed -nE 's/^pan: elapsed time ([0-9.]+) seconds/\1/p' pan.out)
        if grep -q 'errors: 0$' pan.out; then
            result=holds
            # A search that was cut short shows nothing.
            if grep -qE 'max search depth too small|out of memory|reached -DMEMLIM' pan.out; then
                result="cut"
            elif [ "$expected" = holds+ ]; then
                [ -z "$(unreached)" ] && result=holds+ || result=unreached
            fi
        elif grep -qE 'errors: [1-9]' pan.out; then
            result=fails
        fi
    fi
    printf '%-7s %-28s %-44s %9s states %6s s  %s' "$model" "$name" "$*" "${states:--}" \
        "${seconds:--}" "$result"
    count=$((count + 1))
    if [ "$result" = "$expected" ]; then
        echo
        return
    fi
    echo ", expected $expected"
    failed=$((failed + 1))
    case $result in
    unreached) unreached ;;
    fails) grep -E '^pan:[0-9]+:' pan.out ;;
    *) tail -n 5 pan.out 2>/dev/null ;;
    esac
}

while read -r set model name expected flags; do
    case $set in '' | '#'*) continue ;; esac
    [ "$set" = sample ] || [ $set_wanted = all ] || continue
    wanted "$set $model $name $expected $flags" || continue
    # shellcheck disable=SC2086 # flags are a list
    check "$model" "$name" "$expected" $flags
done <"$folder/runs"
echo "$count runs, $failed not as expected"
[ $failed -eq 0 ] && [ $count -gt 0 ]
