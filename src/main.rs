//! The `lamarck` binary; see the library's `cli`.

fn main() -> std::process::ExitCode {
    lamarck::cli::main()
}
