import { svelte } from '@sveltejs/vite-plugin-svelte';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

/** `npm run dev` speaks to a plane that `PLANE` names, else to the fixtures of the tests. */
const plane = process.env['PLANE'];

function fixture(): Plugin {
  return {
    name: 'fixture',
    async configureServer(server) {
      const { Fixture } = await import('./tests/fixture/server.ts');
      const answering = new Fixture();
      server.middlewares.use((request, response, next) => {
        if (!answering.answer(request, response)) next();
      });
    },
  };
}

export default defineConfig({
  plugins: [svelte(), ...(plane || process.env['VITEST'] ? [] : [fixture()])],
  server: plane
    ? {
        proxy: Object.fromEntries(
          ['/api', '/log'].map((path) => [path, { target: plane, secure: false, changeOrigin: true }]),
        ),
      }
    : {},
  build: {
    outDir: 'dist/site',
    target: 'es2023',
    // The plane's policy lets nothing inline act, so nothing is inlined.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  test: {
    projects: [
      { extends: true, test: { name: 'unit', include: ['tests/unit/**/*.test.ts'] } },
      {
        extends: true,
        test: {
          name: 'browser',
          include: ['tests/browser/**/*.test.ts'],
          testTimeout: 120_000,
          // As long as a locator waits; a second is short where other programs run.
          expect: { poll: { timeout: 30_000 } },
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
