//! Ctrl-C, or a request to terminate, stops the current work at its next token or step; a second one, before the
//! first has taken effect, ends the program.

use std::ops::ControlFlow;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Listens for SIGINT, and on Unix for SIGTERM and SIGHUP.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOPPED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .context("cannot listen for Ctrl-C")
}

pub fn clear() {
    STOPPED.store(false, Ordering::SeqCst);
}

pub fn flow() -> ControlFlow<()> {
    if STOPPED.load(Ordering::SeqCst) {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

/// Between looks at another program.
const WAIT: Duration = Duration::from_millis(10);

/// Waits for another program, which is ended if this one is stopped (`None`).
pub fn wait(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if flow().is_break() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(WAIT);
    }
}
