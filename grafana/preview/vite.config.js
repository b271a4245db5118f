import { defineConfig } from 'vite';

export default defineConfig({
  // Only Grafana's components make it large; a page on loopback may be.
  build: { chunkSizeWarningLimit: 20_000, reportCompressedSize: false },
});
