/** What the engine needs to know of the settings: for `serve`, the commands and the front door alike. */
import type { ServiceSettings } from './backup/create-service.ts';
import type { Settings } from './config.ts';

/** The engine's part of `settings`; who makes one adds what only its process knows. */
export function serviceSettings(settings: Omit<Settings, 'pools'>): ServiceSettings {
  const { bucket, retentionDays } = settings;
  const locks = Object.entries(bucket.locks ?? {});
  return {
    prefix: bucket.prefix,
    concurrency: settings.concurrency,
    concurrencyPerPool: settings.concurrencyPerPool,
    concurrencyPerSr: settings.concurrencyPerSr,
    queueLimit: settings.queueLimit,
    instance: settings.instance,
    retentionClasses: Object.keys(retentionDays),
    retentionDays,
    lockDays: Object.fromEntries(locks.map(([name, { days }]) => [name, days])),
    rotation: settings.rotation,
    seamCheckPercent: settings.seamCheckPercent,
    prices: settings.prices,
    leaseMs: settings.leaseMs,
    maxAgeSeconds: settings.maxAgeSeconds,
    retry: { attempts: settings.jobAttempts, firstPauseMs: settings.jobRetryMs },
    leaveParked: settings.queueUrl !== undefined,
  };
}
