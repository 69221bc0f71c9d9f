//! Memory of models that were dropped.

/// Gives freed memory back to the system, as far as the allocator does not do so by itself: glibc keeps what a thread
/// has freed for its next allocations, however much it is.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer, and may be called from any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
