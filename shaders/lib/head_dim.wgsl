// Columns of a head, a multiple of 4.
override HEAD_DIM: u32;
