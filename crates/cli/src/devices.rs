use crate::args::DevicesArgs;
pub async fn devices(_args: &DevicesArgs) -> anyhow::Result<()> {
    Ok(())
}
