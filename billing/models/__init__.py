"""The rows of billing: tariffs, charges and payments, invoices, ledger."""

from .charges import Charge, CostCentre, HouseAccount, PriceInputs
from .dunning import BankReceipt, DunningStep, Reminder
from .invoices import Invoice, InvoiceFile, Mail, Seller, Series
from .ledger import Account, Entry, Movement, Posting
from .payments import Payment, PaymentTransition, ProviderEvent, Refund
from .tariffs import DriverGroup, Tariff, TariffAssignment
from .wallets import Voucher, Wallet

__all__ = [
    "Account",
    "BankReceipt",
    "Charge",
    "CostCentre",
    "DriverGroup",
    "DunningStep",
    "Entry",
    "HouseAccount",
    "Invoice",
    "InvoiceFile",
    "Mail",
    "Movement",
    "Payment",
    "PaymentTransition",
    "Posting",
    "PriceInputs",
    "ProviderEvent",
    "Refund",
    "Reminder",
    "Seller",
    "Series",
    "Tariff",
    "TariffAssignment",
    "Voucher",
    "Wallet",
]
