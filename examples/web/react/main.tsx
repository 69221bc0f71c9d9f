import React, { useState } from "react";
import { createRoot } from "react-dom/client";
import { useSiskin } from "siskin/react";

function Chat() {
  const { status, progress, messages, error, send, stop } = useSiskin("/model.gguf", { system: "Answer in one sentence." });
  const [draft, setDraft] = useState("What is the capital of France?");
  if (status === "loading") return <progress value={progress?.loaded ?? 0} max={progress?.total || 1} />;
  return (
    <form onSubmit={(event) => (event.preventDefault(), send(draft), setDraft(""))}>
      {messages.map(({ role, content }, i) => <p key={i}>{role}: {content}</p>)}
      {error && <p role="alert">{error.message}</p>}
      <input aria-label="Message" value={draft} onChange={(event) => setDraft(event.target.value)} />
      {status === "answering" ? <button type="button" onClick={stop}>Stop</button> : <button>Ask</button>}
    </form>
  );
}

createRoot(document.getElementById("root")!).render(<Chat />);
