#!/usr/bin/env bash
# Runs varfm for `docker run IMAGE score ...`, and any other program for `docker run IMAGE bash -c ...`,
# because workflow engines start a shell in the container and not the tool.
set -euo pipefail

# Under a read-only root or a user unknown to the image the home folder cannot be written.
if [[ ! -w "${HOME:-/}" ]]; then
  export HOME="${TMPDIR:-/tmp}"
fi

if [[ $# -eq 0 ]]; then
  exec varfm --help
fi

case "$1" in
  -* | score | classes | models | tracks | ism | embed | finetune | merge | doctor | completion)
    exec varfm "$@"
    ;;
esac

# A word that is no program is most likely a misspelt command: varfm says so and lists its commands.
if [[ "$1" != */* ]] && ! type -P -- "$1" >/dev/null; then
  exec varfm "$@"
fi
exec "$@"
