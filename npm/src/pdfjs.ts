// pdf.js: a file of its own in `dist`, which is imported when the first PDF is read.

export { PDFWorker, getDocument } from "pdfjs-dist/legacy/build/pdf.mjs";
