use siskin_formats::TensorType;

use crate::repack::repack;
use crate::{Error, GpuDevice, GpuType, Result};

/// Rows of a matrix that one dispatch can bind: of one type, and within the binding limit.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub ty: GpuType,
    pub row0: usize,
    pub rows: usize,
    pub values: wgpu::Buffer,
    pub scales: Option<wgpu::Buffer>,
    pub bytes: u64,
}

#[derive(Debug)]
pub(crate) enum GpuWeight {
    Matrix { runs: Vec<Run>, cols: usize },
    Vector(wgpu::Buffer),
}

/// A matrix that is being uploaded, part by part.
#[derive(Debug)]
pub struct Upload<'a> {
    device: &'a mut GpuDevice,
    name: String,
    cols: usize,
    /// Types and rows of the parts that are still to come.
    parts: std::collections::VecDeque<(TensorType, usize)>,
    runs: Vec<Run>,
    /// Scales of each run so far: two f16 may share a word across parts.
    scales: Vec<Vec<u8>>,
    /// Bytes of values written to each run.
    written: Vec<u64>,
    row: usize,
}

/// Rows are repacked and written in pieces of about this size.
const PIECE: usize = 4 << 20;

impl GpuDevice {
    /// Creates the buffers of a matrix of `cols` columns that is the stack of `parts`: types in the file, and rows.
    ///
    /// # Errors
    /// If `cols` is not a multiple of 32, or one row exceeds the adapter's limit for a binding.
    pub fn matrix(
        &mut self,
        name: &str,
        parts: &[(TensorType, usize)],
        cols: usize,
    ) -> Result<Upload<'_>> {
        if !cols.is_multiple_of(32) {
            return Err(Error::Columns {
                name: name.into(),
                cols,
            });
        }
        let limit = self
            .opened
            .limits
            .max_storage_buffer_binding_size
            .min(self.opened.limits.max_buffer_size);
        let mut spans: Vec<(GpuType, usize, usize)> = vec![];
        let mut row = 0;
        for (ty, rows) in parts {
            let ty = GpuType::of(*ty);
            match spans.last_mut() {
                Some(last) if last.0 == ty => last.2 += rows,
                _ => spans.push((ty, row, *rows)),
            }
            row += rows;
        }
        let mut runs = vec![];
        for (ty, row0, rows) in spans {
            let row_bytes = ty.value_bytes(cols) as u64;
            let most = (limit / row_bytes) as usize;
            if most == 0 {
                return Err(Error::TooLarge {
                    what: format!("a row of `{name}`"),
                    needed: row_bytes,
                    gpu: self.opened.name.clone(),
                    limit,
                });
            }
            // Even pieces of a multiple of 64 rows.
            let pieces = rows.div_ceil(most);
            let each = rows.div_ceil(pieces).next_multiple_of(64).min(most);
            for first in (0..rows).step_by(each) {
                let rows = each.min(rows - first);
                let values = self.storage(name, rows as u64 * row_bytes)?;
                let row0 = row0 + first;
                runs.push(Run {
                    ty,
                    row0,
                    rows,
                    values,
                    scales: None,
                    bytes: 0,
                });
            }
        }
        let n = runs.len();
        Ok(Upload {
            device: self,
            name: name.into(),
            cols,
            parts: parts.iter().copied().collect(),
            runs,
            scales: vec![vec![]; n],
            written: vec![0; n],
            row: 0,
        })
    }

    /// Uploads a vector.
    ///
    /// # Errors
    /// If it exceeds the adapter's limits.
    pub fn add_vector(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let buffer = self.storage(name, values.len() as u64 * 4)?;
        self.queue
            .write_buffer(&buffer, 0, bytemuck::cast_slice(values));
        self.weights.insert(name.into(), GpuWeight::Vector(buffer));
        Ok(())
    }
}

impl Upload<'_> {
    /// Uploads the next part, from its bytes in the file.
    ///
    /// # Errors
    /// If all parts were uploaded already.
    pub fn part(&mut self, bytes: &[u8]) -> Result<()> {
        let Some((ty, rows)) = self.parts.pop_front() else {
            return Err(Error::Unsupported(format!(
                "`{}` has fewer parts",
                self.name
            )));
        };
        let row_bytes = bytes.len() / rows;
        let mut left = bytes;
        while !left.is_empty() {
            let at = self
                .runs
                .iter()
                .rposition(|r| r.row0 <= self.row)
                .unwrap_or(0);
            let room = self.runs[at].row0 + self.runs[at].rows - self.row;
            let take = room
                .min(left.len() / row_bytes)
                .min((PIECE / row_bytes).max(1));
            let (now, rest) = left.split_at(take * row_bytes);
            let mut values = vec![];
            repack(ty, now, &mut values, &mut self.scales[at]);
            self.device
                .queue
                .write_buffer(&self.runs[at].values, self.written[at], &values);
            self.written[at] += values.len() as u64;
            self.row += take;
            left = rest;
        }
        Ok(())
    }

    /// Leaves all values 0: for measuring kernels without a model.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn zeroed(mut self) -> Result<()> {
        for (run, scales) in self.runs.iter().zip(&mut self.scales) {
            scales.resize(run.ty.scale_bytes(run.rows * self.cols), 0);
        }
        for (run, written) in self.runs.iter().zip(&mut self.written) {
            *written = run.ty.value_bytes(run.rows * self.cols) as u64;
        }
        self.finish()
    }

    /// Adds the matrix to the device's weights.
    ///
    /// # Errors
    /// If its scales exceed the adapter's limits.
    pub fn finish(mut self) -> Result<()> {
        for (i, mut scales) in self.scales.into_iter().enumerate() {
            let run = &mut self.runs[i];
            run.bytes = self.written[i] + scales.len() as u64;
            if !scales.is_empty() {
                scales.resize(scales.len().next_multiple_of(4), 0);
                let buffer = self.device.storage(&self.name, scales.len() as u64)?;
                self.device.queue.write_buffer(&buffer, 0, &scales);
                run.scales = Some(buffer);
            }
        }
        // Submits the writes, so that their staging memory is released.
        self.device.queue.submit([]);
        let weight = GpuWeight::Matrix {
            runs: self.runs,
            cols: self.cols,
        };
        self.device.weights.insert(self.name, weight);
        Ok(())
    }
}
