use crate::args::BenchArgs;
pub async fn bench(_args: BenchArgs) -> anyhow::Result<()> {
    Ok(())
}
