/**
 * Empty records of the classes with few fields, and the pieces all records share. See records.ts.
 */
import { NULL_REF, type Rec } from './values.ts';

/** What a date field holds before anything happened. */
export const EPOCH = new Date(0);

/** The two fields every class with operations has. */
export const operations = () => ({ allowed_operations: [], current_operations: {} });

/** uuid, name and description. */
export const named = () => ({ uuid: '', name_label: '', name_description: '' });

const qos = () => ({
  qos_algorithm_type: '',
  qos_algorithm_params: {},
  qos_supported_algorithms: [],
});

/** What VBD and VIF have in common. */
export const device = () => ({
  uuid: '',
  ...operations(),
  currently_attached: false,
  status_code: 0,
  status_detail: '',
  runtime_properties: {},
  other_config: {},
  ...qos(),
});

/** Makers of the small records, by class. */
export const SMALL_RECORDS: Record<string, () => Rec> = {
  session: () => ({
    uuid: '',
    this_host: NULL_REF,
    this_user: NULL_REF,
    last_active: EPOCH,
    pool: true,
    other_config: {},
    is_local_superuser: true,
    subject: NULL_REF,
    validation_time: EPOCH,
    auth_user_sid: '',
    auth_user_name: '',
    rbac_permissions: [],
    tasks: [],
    parent: NULL_REF,
    originator: '',
  }),
  host_metrics: () => ({
    uuid: '',
    memory_total: 68_719_476_736,
    memory_free: 34_359_738_368,
    live: true,
    last_updated: EPOCH,
    other_config: {},
  }),
  PBD: () => ({
    uuid: '',
    host: NULL_REF,
    SR: NULL_REF,
    device_config: {},
    currently_attached: true,
    other_config: {},
  }),
  PIF: () => ({
    uuid: '',
    device: 'eth0',
    network: NULL_REF,
    host: NULL_REF,
    MAC: '',
    MTU: 1500,
    VLAN: -1,
    currently_attached: true,
    physical: true,
    management: true,
    IP: '',
    other_config: {},
  }),
  SM: () => ({
    ...named(),
    type: '',
    vendor: 'simulated',
    copyright: '',
    version: '3.0',
    required_api_version: '1.0',
    configuration: {},
    capabilities: [],
    features: {},
    other_config: {},
    driver_filename: '',
    required_cluster_stack: [],
  }),
  network: () => ({
    ...named(),
    ...operations(),
    VIFs: [],
    PIFs: [],
    MTU: 1500,
    other_config: {},
    bridge: '',
    managed: true,
    blobs: {},
    tags: [],
    default_locking_mode: 'unlocked',
    assigned_ips: {},
    purpose: [],
  }),
  VM_metrics: () => ({
    uuid: '',
    memory_actual: 2_147_483_648,
    VCPUs_number: 2,
    VCPUs_utilisation: {},
    VCPUs_CPU: {},
    VCPUs_params: {},
    VCPUs_flags: {},
    state: [],
    start_time: EPOCH,
    install_time: EPOCH,
    last_updated: EPOCH,
    other_config: {},
    hvm: true,
    nested_virt: false,
    nomigrate: false,
    current_domain_type: 'hvm',
  }),
  VM_guest_metrics: () => ({
    uuid: '',
    os_version: {},
    PV_drivers_version: {},
    PV_drivers_up_to_date: true,
    memory: {},
    disks: {},
    networks: {},
    other: {},
    last_updated: EPOCH,
    other_config: {},
    live: true,
    can_use_hotplug_vbd: 'unspecified',
    can_use_hotplug_vif: 'unspecified',
    PV_drivers_detected: true,
  }),
  VTPM: () => ({
    uuid: '',
    ...operations(),
    VM: NULL_REF,
    backend: NULL_REF,
    persistence_backend: 'xapi',
    is_unique: false,
    is_protected: false,
    contents: '',
  }),
  VUSB: () => ({ uuid: '', ...operations(), VM: NULL_REF, USB_group: NULL_REF, other_config: {} }),
  message: () => ({
    uuid: '',
    name: '',
    priority: 5,
    cls: 'VM',
    obj_uuid: '',
    timestamp: EPOCH,
    body: '',
  }),
  Certificate: () => ({
    uuid: '',
    name: '',
    type: 'host',
    host: NULL_REF,
    not_before: EPOCH,
    not_after: EPOCH,
    fingerprint: '',
    fingerprint_sha256: '',
  }),
};
