#!/usr/bin/env bash
# Installs the build into an empty folder, builds the example against it as a user would, and runs it.
# Usage: installed_package.sh CMAKE BUILD_FOLDER EXAMPLES [C_FLAG]
set -euo pipefail
cmake=$1 build=$2 examples=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$cmake" --install "$build" --prefix "$work/first" > "$work/log" || { cat "$work/log"; exit 1; }
mv "$work/first" "$work/prefix"  # an installed Fairway may be moved

"$work/prefix/bin/fairway" --version
# Only the library's own headers are laid down.
(cd "$work/prefix/include" && find . -name '*.h' | sort) > "$work/headers"
printf './fairway/fairway.h\n./fairway/fairway_c.h\n' | diff - "$work/headers"

"$cmake" -S "$examples" -B "$work/example" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Release > "$work/log" ||
  { cat "$work/log"; exit 1; }
"$cmake" --build "$work/example" > "$work/log" || { cat "$work/log"; exit 1; }
cd "$work"
"$work/example/fairway-example" run | tee "$work/out"
grep -q 'step 40: ' "$work/out"
grep -Eq '^[0-9]+ parameters, [0-9.]+ bits per byte \(valid\)$' "$work/out"
grep -q '^The Mole had been' "$work/out"
test -s run/model.fairway

# The header is C, and C programs link too.
cat > main.c <<'C'
#include <fairway/fairway_c.h>
#include <stdio.h>
int main(void) {
  char error[200];
  fairway_model* model = 0;
  const int code = fairway_open("none.fairway", 1, &model, error, sizeof error);
  printf("%s: %d, %s\n", fairway_version(), code, error);
  return code == 2 && model == 0 ? 0 : 1;
}
C
lib=$(dirname "$(find "$work/prefix" -name 'libfairway.so')")
cc -std=c11 -Wall -Wextra ${4:+"$4"} main.c -I"$work/prefix/include" -L"$lib" -lfairway -Wl,-rpath,"$lib" -o main_c
./main_c
