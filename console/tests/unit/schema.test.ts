import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import openapi, { astToString } from 'openapi-typescript';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../../..');

test('the checked-in types are those of the interface (npm run types renews them)', { timeout: 60_000 }, async () => {
  const interfaces = JSON.parse(readFileSync(join(ROOT, 'doors/plane/openapi.json'), 'utf8'));
  const now = astToString(await openapi(interfaces, { alphabetize: true }));
  const kept = readFileSync(join(ROOT, 'console/src/lib/schema.d.ts'), 'utf8');
  const bare = (text: string) => text.replace(/^\/\*\*[\s\S]*?\*\/\n*/, '').trim();
  expect(bare(kept) === bare(now), 'old: run npm run types in console/').toBe(true);
});
