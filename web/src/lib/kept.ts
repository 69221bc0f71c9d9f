// What a training needs to go on after its tab was closed. The Cache API replaces an entry as a whole, so that
// one which is there is whole.

const STORE = "siskin-training";
const at = (name: string) => new URL(`kept/${name}`, document.baseURI).href;

/** False where the browser keeps nothing, or has no room. */
export async function keep(name: string, body: Blob | string | Uint8Array<ArrayBuffer>): Promise<boolean> {
  try {
    await (await caches.open(STORE)).put(at(name), new Response(body));
    return true;
  } catch {
    return false;
  }
}

export async function kept(name: string): Promise<Response | undefined> {
  try {
    return await (await caches.open(STORE)).match(at(name));
  } catch {
    return undefined;
  }
}

export async function forget(): Promise<void> {
  try {
    await caches.delete(STORE);
  } catch {
    // Nothing was kept.
  }
}
