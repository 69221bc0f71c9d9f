//! Memory of models that are dropped, as glibc handles it; other allocators give it back by themselves.

/// Lets large allocations be mappings of their own, however many have been freed: caches then take memory only where
/// they are written, and all of it is given back at once. To be called before models are loaded.
pub fn prepare() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer, and may be called at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

/// Gives back what was freed in smaller parts, which is otherwise kept for the next allocations.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer, and may be called from any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
