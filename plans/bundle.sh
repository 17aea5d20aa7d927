# What clients outside of the mesh trust: the root certificate below a line that says whose it is.
# tasks.kdl runs this with ROOT, BUNDLE and OWNER set.
set -eu
{ echo "# Root CA of the mesh, kept by $OWNER"; cat "$ROOT"; } > "$BUNDLE.new"
mv "$BUNDLE.new" "$BUNDLE"          # never half a file
