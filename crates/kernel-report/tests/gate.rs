//! No kernel of a GPU profile may spill, and each must allow at least 8 subgroups per SIMD.

use std::process::Command;

use serde_json::Value;

#[test]
fn no_spills_and_eight_subgroups() {
    // A Vega SIMD has a quarter of Navi's registers per lane: only spills count there.
    for (gpu, least) in [("navi21", 8), ("vega10", 1)] {
        let output = Command::new(env!("CARGO_BIN_EXE_siskin-kernel-report"))
            .args(["--json", "--gpu", gpu])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert!(rows.len() > 100, "only {} kernels", rows.len());
        for row in &rows {
            let what = format!("{gpu}: {row}");
            assert_eq!(row["spills"], 0, "{what}");
            let subgroups = row["subgroups_per_simd"].as_u64().unwrap();
            assert!(subgroups >= least, "{what}");
            assert!(
                row["kernel"] != "matvec" || row["wide_loads"] == true,
                "{what}"
            );
        }
    }
}
