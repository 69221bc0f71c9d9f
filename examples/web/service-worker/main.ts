await navigator.serviceWorker.register("/worker.js", { type: "module" });
await navigator.serviceWorker.ready;
const [button, output] = [document.querySelector("button")!, document.querySelector("output")!];
button.disabled = false;
button.onclick = async () => {
  const body = JSON.stringify({ messages: [{ role: "user", content: "What is the capital of France?" }] });
  const answer = await fetch("/v1/chat/completions", { method: "POST", body });
  output.value = (await answer.json()).choices[0].message.content;
};
