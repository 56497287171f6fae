# Places files in a guest. Content comes on standard input only.
#   create TMP [COMMIT...]   makes TMP with mode 0600 from standard input
#   append TMP [COMMIT...]   appends standard input to TMP
#   remove TMP [COMMIT...]   removes TMP and every temporary file named in COMMIT
# COMMIT is six words for each file: TMP TARGET OWNER GROUP MODE SIZE. All files are checked and
# get their owner and mode first; only then is any renamed. Whatever fails, the temporary files go.
# Needs a POSIX shell, and coreutils or busybox.
set -euf
umask 077
nl='
'
step=starting
action=$1
tmp=$2
shift 2

list() {
    while [ $# -ge 6 ]; do
        temporaries=$temporaries$nl$1
        shift 6
    done
}
temporaries=$tmp
list "$@"

clean() {
    IFS=$nl
    for each in $temporaries; do
        rm -f -- "$each"
    done
}
trap 'code=$?; trap - EXIT; if [ "$code" -ne 0 ]; then echo "failed at: $step" >&2; clean; fi; exit "$code"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    echo "$1" >&2
    exit 1
}

prepare() {
    while [ $# -ge 6 ]; do
        step="checking $2"
        if [ -d "$2" ]; then fail "$2 is a directory"; fi
        size=$(wc -c <"$1")
        if [ "$((size))" -ne "$6" ]; then fail "$2: $6 bytes were sent, $((size)) arrived"; fi
        step="chown $3:$4 $2"
        chown -- "$3:$4" "$1"
        step="chmod $5 $2"
        chmod -- "$5" "$1"
        step="sync $2"
        sync -- "$1" 2>/dev/null || sync
        shift 6
    done
}

rename() {
    while [ $# -ge 6 ]; do
        step="rename to $2"
        mv -f -- "$1" "$2"
        shift 6
    done
}

directory=${tmp%/*}
case $action in
create)
    step="making ${directory:-/}"
    (umask 022 && mkdir -p -- "${directory:-/}")
    # What an interrupted placing of the same file left behind.
    set +f
    for old in "${tmp%.*}".*; do
        if [ -f "$old" ]; then rm -f -- "$old"; fi
    done
    set -f
    step="writing $tmp"
    set -C
    cat >"$tmp"
    set +C
    ;;
append)
    step="appending to $tmp"
    [ -f "$tmp" ]
    cat >>"$tmp"
    ;;
remove)
    clean
    exit 0
    ;;
*)
    fail "unknown action $action"
    ;;
esac
prepare "$@"
rename "$@"
