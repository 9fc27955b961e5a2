//! Keys, one at a time as they are pressed.
//!
//! While keys are read the terminal neither waits for the end of a line nor shows what is typed; signals and output
//! work as ever. It is put back whichever way the program ends, but for a signal that nothing can catch.

use std::io::{self, IsTerminal, Read};
use std::sync::Mutex;
use std::thread;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// How the terminal was, while it is otherwise.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal's keys. They are let go when this is dropped.
pub struct Keys(());

impl Keys {
    /// Has every key that is pressed handed over; `None` if standard input is no terminal.
    pub fn listen(press: impl Fn(u8) + Send + 'static) -> Option<Self> {
        let input = io::stdin();
        if !input.is_terminal() {
            return None;
        }
        let keys = Self(());
        keys.take();
        // It ends with the program, since nothing wakes it but keys.
        thread::spawn(move || {
            let mut key = [0];
            while let Ok(1) = io::stdin().lock().read(&mut key) {
                press(key[0]);
            }
        });
        Some(keys)
    }

    /// Takes keys one by one.
    pub fn take(&self) {
        let input = io::stdin();
        let Ok(now) = tcgetattr(&input) else { return };
        let mut by_key = now.clone();
        by_key.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        before().get_or_insert(now);
        let _ = tcsetattr(&input, OptionalActions::Now, &by_key);
    }

    /// Puts the terminal back until keys are taken again.
    pub fn leave(&self) {
        restore();
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was, if it is otherwise. For those who end the program without dropping anything.
pub fn restore() {
    if let Some(before) = before().take() {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

fn before() -> std::sync::MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
