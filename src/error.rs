//! What kind of trouble an error is, whatever layer it comes from.

/// Whose trouble an error is. Every public error type tells its class by `class()`; what follows from
/// it, as an exit code, is up to whoever handles the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The recipe cannot be read, or asks for what cannot be done.
    Recipe,
    /// A checkpoint, an output folder or its lockfile is not what it should be.
    Data,
    /// Something of the store is damaged. A build makes it anew.
    Damage,
    /// There is no room, or the system did not read, write or start what it was asked to.
    System,
    /// A server could not be reached, or gave an answer that cannot be used.
    Remote,
    /// Another process holds a lock, and waiting was not wanted.
    Lock,
    /// Somebody stopped the work.
    Interrupt,
    /// What was computed cannot be relied on: the program or the machine is at fault.
    Internal,
}
