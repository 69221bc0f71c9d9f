/** Numbers in human-readable form. */
export const mib = (bytes: number): string =>
  bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(2)} GiB` : bytes >= 2 ** 20 ? `${(bytes / 2 ** 20).toFixed(0)} MiB` : `${Math.ceil(bytes / 1024)} KiB`;

export const count = (n: number): string =>
  n >= 1e9 ? `${(n / 1e9).toFixed(1)} B` : n >= 1e6 ? `${(n / 1e6).toFixed(1)} M` : n >= 1e3 ? `${(n / 1e3).toFixed(1)} k` : String(n);

/** A vocabulary piece with visible spaces and line ends. */
export const visible = (piece: string): string =>
  piece.replaceAll("Ġ", "␣").replaceAll("▁", "␣").replaceAll(" ", "␣").replaceAll("Ċ", "⏎").replaceAll("\n", "⏎");

export const words = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown));

/** Offers something to the user as a file. */
export function save(name: string, content: string | Blob, type = "application/json"): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
