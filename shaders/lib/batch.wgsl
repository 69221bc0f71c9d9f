// The data of each token of a batch of whole texts.
struct Info {
    // In its own text; 0 begins a segment.
    position: u32,
    // The token to be predicted.
    target_id: u32,
    // The factor of the row's loss; 0 excludes the row.
    weight: f32,
    // The row after its segment.
    end: u32,
    // The number of its segment.
    segment: u32,
}
@group(0) @binding(2) var<storage, read> batch: array<Info>;
