// The page answers from the user's files.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { accessible, fitsWidth } from "./accessible.mjs";
import { launch } from "./chromium.mjs";
import { loadModel, opened, say, serveSite, visit } from "./page.mjs";

let [server, browser] = [];

before(async () => {
  server = await serveSite();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  server?.close();
});

const FERRY = "# Bergen\n\nThe ferry to Bergen leaves at nine in the morning.\n\n# Food\n\nThe café in the harbour sells waffles.";

test("files of the user: added, asked, kept with their sources over a reload, removed", async () => {
  const { page, noise, context } = await visit(browser, server.url, { viewport: { width: 360, height: 740 }, colorScheme: "dark" });
  await page.evaluate(() => {
    localStorage.setItem("siskin.device", '"cpu"');
    localStorage.setItem("siskin.sampling", JSON.stringify({ max_tokens: 24 }));
  });
  await page.reload();
  const fetched = [];
  page.on("request", (request) => fetched.push(...(request.url().match(/document-index[^/]*\.js/) ?? [])));
  await loadModel(page);
  assert.deepEqual(fetched, []);

  await page.getByRole("button", { name: /^Files/ }).focus();
  await page.keyboard.press("Enter");
  const panel = page.getByRole("dialog", { name: "Files" });
  await panel.getByText("No files yet.").waitFor();
  const answerFrom = panel.getByRole("switch", { name: "Answer from these files" });
  assert.equal(await answerFrom.isChecked(), false);
  const file = (name, text) => ({ name, mimeType: "", buffer: Buffer.from(text) });
  await panel.getByLabel("Add files …").setInputFiles([file("broken.txt", Buffer.from([0xff])), file("trip.md", FERRY)]);
  await panel.getByRole("alert").getByText(/^broken\.txt is not UTF-8/).waitFor();
  await panel.getByText("2 passages", { exact: true }).waitFor();
  assert.equal(await answerFrom.isChecked(), true);
  await accessible(page, "files");
  await fitsWidth(page, "files");
  await page.keyboard.press("Escape");
  await panel.waitFor({ state: "hidden" });

  const answer = await say(page, "When does the ferry to Bergen leave?");
  assert.match(answer, /nine/);
  const sources = page.getByRole("region", { name: "Sources" });
  assert.deepEqual((await sources.locator(".place").allInnerTexts()).sort(), [", Bergen", ", Food"]);
  await sources.getByText("trip.md, Bergen").click();
  await sources.getByText("The ferry to Bergen leaves at nine in the morning.").waitFor();
  await accessible(page, "sources");
  await fitsWidth(page, "sources");

  await page.reload();
  await opened(page);
  await sources.getByText("trip.md, Bergen").waitFor();
  await page.getByRole("button", { name: "Files: this conversation is answered from them" }).click();
  await panel.getByRole("button", { name: "Remove trip.md" }).click();
  await panel.getByText("No files yet.").waitFor();
  await page.keyboard.press("Escape");
  await sources.getByText("trip.md, Bergen").waitFor();

  const dropped = await page.evaluateHandle(() => {
    const data = new DataTransfer();
    data.items.add(new File(["The museum is closed on Mondays."], "museum.txt"));
    return data;
  });
  await page.dispatchEvent("[role=log]", "drop", { dataTransfer: dropped });
  await panel.getByText("museum.txt", { exact: true }).waitFor();
  await panel.getByText("1 passage", { exact: true }).waitFor();
  await page.keyboard.press("Escape");

  // A conversation from a file: numbers of sources in an answer open them, other numbers are text.
  const messages = [
    { role: "user", content: "And the way?" },
    { role: "assistant", content: "Along the fjord [2], not [3].", sources: [{ document: "a.txt", text: "A lake." }, { document: "guide.pdf", text: "A fjord.", page: 3 }] },
    { role: "user", content: "Why?" },
    { role: "assistant", content: "I do not know.", sources: [] },
  ];
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.getByText("Import and export").click();
  await page.getByLabel("Import …").setInputFiles(file("way.json", JSON.stringify({ messages })));
  await page.getByText("No passage was found in the files").waitFor();
  assert.deepEqual(await page.locator(".cite").allInnerTexts(), ["[2]"]);
  await page.getByRole("button", { name: "Source 2" }).click();
  await sources.getByText("A fjord.").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.innerText), "[2] guide.pdf, page 3");
  assert.equal(await sources.getByText("A lake.").isVisible(), false);
  await accessible(page, "citations");
  const exported = async (name) => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name }).click()]);
    return readFileSync(await download.path(), "utf8");
  };
  assert.deepEqual(JSON.parse(await exported("Export as JSON")).messages, messages);
  assert.match(await exported("Export as Markdown"), /not \[3\]\.\n\nSources:\n\n- \[1\] a\.txt\n- \[2\] guide\.pdf, page 3\n/);
  assert.deepEqual(noise, []);
  await context.close();
});
