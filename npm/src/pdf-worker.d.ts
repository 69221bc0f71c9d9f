// The worker of pdf.js, which the build copies; where it is imported instead, it answers on that thread.
export {};
