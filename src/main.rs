//! The command `meshplan`: argv in, exit code out.

fn main() -> std::process::ExitCode {
    meshplan::cli::main()
}
