/** A reporter for `node --test`: failures in full, skips with their reasons, the slowest files, the closing counts. */
import { relative } from 'node:path';
import type { TestEvent } from 'node:test/reporters';

const SLOWEST_FILES = 10;
/** Of a file's standard error: where a file fails outside its tests, only that says why. */
const STDERR_LIMIT = 4000;

/** Reads the runner's events and yields text. */
export default async function* summary(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const skips: string[] = [];
  const files: { file: string; seconds: number }[] = [];
  const stderr = new Map<string, string>();
  for await (const event of events) {
    if (event.type === 'test:stderr') {
      const { file, message } = event.data;
      stderr.set(file, `${stderr.get(file) ?? ''}${message}`.slice(-STDERR_LIMIT));
    }
    // an error that no test caught: where the file fails, this alone says why
    if (event.type === 'test:diagnostic' && event.data.message.startsWith('Error: ')) {
      yield `\n✖ ${event.data.message}\n  ${event.data.file ?? ''}\n`;
    }
    if (event.type === 'test:summary' && event.data.file !== undefined) {
      files.push({ file: event.data.file, seconds: event.data.duration_ms / 1000 });
    }
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue;
    const { name, file = '', skip, details } = event.data;
    if (details.type === 'suite') continue;
    if (skip !== undefined && skip !== false) {
      counts.skipped++;
      skips.push(`skipped: ${name}${typeof skip === 'string' && skip !== '' ? `: ${skip}` : ''}`);
    } else if (event.type === 'test:pass') {
      counts.passed++;
    } else {
      counts.failed++;
      const { error } = event.data.details;
      const cause = (error.cause ?? error) as Error;
      yield `\n✖ ${name}\n  ${file}:${event.data.line}\n  ${String(cause.stack ?? cause)}\n`;
      if (name.endsWith('.test.ts')) yield `${stderr.get(file) ?? ''}\n`;
    }
  }
  files.sort((a, b) => b.seconds - a.seconds);
  yield '\n\nslowest files:\n';
  for (const { file, seconds } of files.slice(0, SLOWEST_FILES)) {
    yield `  ${seconds.toFixed(1).padStart(6)} s  ${relative(process.cwd(), file)}\n`;
  }
  yield [...new Set(skips)].map((line) => `${line}\n`).join('');
  yield `\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`;
}
