//! The `gemma-tune` command.

use std::process::ExitCode;

// glibc gives freed tensor memory back to the system at once and faults it in again; mimalloc reuses it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gemma_tune::cli::main()
}
