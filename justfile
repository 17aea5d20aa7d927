# List the recipes
default:
    @just --list

# Build and run the demo plan, as the README does
demo:
    cargo run --release -- run plans/demo.kdl

# Every test but those of real clusters; a judge that is not installed is reported as skipped
test:
    cargo test

# Build the tools of real clusters into target/lab (Go; 20 minutes, once)
lab:
    tests/lab/lab build

# The tests on real clusters, all or those whose names contain FILTER
e2e *FILTER: lab
    cargo test --test e2e --test bad_days --no-run
    tests/lab/lab inside cargo test --test e2e --test bad_days -- --ignored --test-threads=1 {{FILTER}}

# Formatting, lints and documentation, with warnings denied
lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# Licences, sources and duplicate versions of dependencies
deny:
    cargo fetch --quiet --locked
    cargo deny --offline check licenses bans sources

# Rewrite the expected error texts of fixtures/errors
bless:
    BLESS=1 cargo test --test errors

# Times beside make, ninja, n2, openssl and the floors: all cases, or those named
bench *CASES:
    benches/compare.py {{CASES}}

# Everything that CI runs
ci:
    .ci/run
