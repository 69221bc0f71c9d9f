// What is known of each token of a batch for training.
struct Info {
    // In its own example; 0 begins a segment.
    position: u32,
    // The token to be predicted.
    target_id: u32,
    // What the loss is multiplied by; 0 leaves the row out.
    weight: f32,
    // The row after its segment.
    end: u32,
}
@group(0) @binding(2) var<storage, read> batch: array<Info>;
