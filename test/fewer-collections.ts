/**
 * Imported, for its effect, by test files that move hundreds of MiB through buffers.
 *
 * V8 collects the whole heap whenever 64 MiB of buffers were made since the last time, however much memory there is:
 * two hundred times in test/conformance/object-store.test.ts, 40 % of its CPU time. With this flag buffers count
 * as the rest of the heap does, by growth in proportion. Peaks grow by a fifth to a half; the limit stands in for it.
 */
import { setFlagsFromString } from 'node:v8';

setFlagsFromString('--external-memory-accounted-in-global-limit');
